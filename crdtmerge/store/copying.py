"""Content from one store to another, block by block: what two replicas in one process exchange."""

from __future__ import annotations

from crdtmerge.manifest import Manifest
from crdtmerge.store.store import Store


def copy_content(source: Store, target: Store, manifest: Manifest) -> None:
    """Copy a manifest and what it names; every block is verified on the way, and only what is new moves.

    Raises:
        NotYetError: if ``source`` has not all of it; what it has may have been copied.
        CorruptBlockError: if ``source`` holds something else than it should.
    """
    lists = []
    with target.taking_in():
        for tensor in manifest.tensors + manifest.evidence:
            blocks = source.block_list(tensor.root)
            for block in blocks:
                if not target.blocks.has(block):
                    target.blocks.put(source.blocks.get(block))
            lists.append((tensor.dtype, tensor.shape, blocks))
        target.put_tensors(lists)
        target.put_manifest(manifest)
