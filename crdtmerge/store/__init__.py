"""Everything one replica keeps on disk: operations, manifests, block lists, blocks, an address book.

    Store ── meta.db (database.py): operations, manifests, block lists, settings, records, verdicts
      ├───── blocks/     (disk.py): blocks of our own, one file each, named by their digest
      └───── references (references.py): blocks inside the user's own files, left where they are

Always true: nothing is returned that was not checked against its digest in that very call; nothing is
allocated before its size was compared with a limit; what was acknowledged survives `kill -9`, and a
power cut if the disk honours fsync. Layout and order of writes: docs/spec/store.md.

Files from outside come in through `ingest_file`, which reads safetensors only, with checks of its own.
"""

from __future__ import annotations

from crdtmerge.block import block_digest
from crdtmerge.store.blocks import Blocks, MemoryBlocks
from crdtmerge.store.disk import DiskBlocks
from crdtmerge.store.header import Entry
from crdtmerge.store.ingest import ingest_file, ingest_tensors
from crdtmerge.store.missing import Missing
from crdtmerge.store.reader import Reader
from crdtmerge.store.shards import shards_of
from crdtmerge.store.store import Store
from crdtmerge.store.tensorfile import TensorFile, TensorFileWriter
from crdtmerge.store.vocabulary import fit_vocabulary

__all__ = [
    "Blocks",
    "DiskBlocks",
    "Entry",
    "MemoryBlocks",
    "Missing",
    "Reader",
    "Store",
    "TensorFile",
    "TensorFileWriter",
    "block_digest",
    "fit_vocabulary",
    "ingest_file",
    "ingest_tensors",
    "shards_of",
]
