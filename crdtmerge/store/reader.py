"""Reading tensors: ranges of bytes out of verified blocks, each fetched once while the budget holds.

A tensor that a hundred contributions share is read once, as its blocks are known by their content.
Threads that want the same block at the same time wait for one read instead of doing two.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import TypeVar

from crdtmerge.digest import DIGEST_BYTES, Digest, Readable
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Tensor

_Wanted = TypeVar("_Wanted")


class Reader:
    """Reads byte ranges of tensors, for several threads at once.

    Attributes:
        budget_bytes: what the cache of blocks and block lists may hold. What threads are working on comes
            on top: a block, and the range that is asked for, per thread.
        blocks_read: number of blocks fetched from below so far; one found in the cache does not count.
    """

    def __init__(
        self,
        get_block: Callable[[Digest], bytes],
        get_block_list: Callable[[Tensor], bytes],
        *,
        budget_bytes: int,
    ) -> None:
        """Make a reader over verified blocks and verified block lists (digests in one string of bytes)."""
        if budget_bytes < 0:
            raise ParameterError(f"a cache of {budget_bytes} bytes")
        self._get_block, self._get_block_list = get_block, get_block_list
        self.budget_bytes = budget_bytes
        self.blocks_read = 0
        self._lock = threading.Lock()
        # The least recently used first; a future stands for what a thread is fetching.
        self._cache: OrderedDict[Hashable, bytes | Future[bytes]] = OrderedDict()
        self._cached_bytes = 0

    def read(self, tensor: Tensor, begin: int, end: int) -> bytes:
        """Return bytes ``[begin, end)`` of a tensor's raw content, verified; raises what `view` raises."""
        return b"".join(self._parts(tensor, begin, end))

    def view(self, tensor: Tensor, begin: int, end: int) -> Readable:
        """Return what `read` returns, but without a copy where the range lies within one block.

        Raises:
            ParameterError: if the range does not lie within the tensor.
            NotYetError: if the block list or a block is not here.
            CorruptBlockError: if a stored block is no longer what it was.
            MalformedError: if the manifest gives a root the dtype or shape of another tensor, or a block
                has another length than its place asks for: nobody can ever read such a contribution.
        """
        parts = self._parts(tensor, begin, end)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _parts(self, tensor: Tensor, begin: int, end: int) -> list[Readable]:
        total = tensor.bytes
        if not 0 <= begin <= end <= total:
            raise ParameterError(f"bytes [{begin}, {end}) of {tensor.name}, which has {total}")
        if begin == end:
            return []
        first, stop = begin // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        names = self._block_names(tensor)
        parts: list[Readable] = []
        for index in range(first, stop):
            start = index * BLOCK_BYTES
            name = Digest(names[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])
            block = self._cached(name, self._fetch, name)
            if len(block) != min(BLOCK_BYTES, total - start):
                raise MalformedError(
                    f"block {index} of {tensor.name} has {len(block)} bytes, its tensor {total}"
                )
            whole = begin <= start and start + len(block) <= end
            parts.append(block if whole else memoryview(block)[max(begin - start, 0) : end - start])
        return parts

    def block_list(self, tensor: Tensor) -> tuple[Digest, ...]:
        """Return the digests of the tensor's blocks, in order; see `Store.block_list`."""
        return split(self._block_names(tensor))

    def _block_names(self, tensor: Tensor) -> bytes:
        # dtype and shape belong to the key: a list that fits one tensor is no list of another's.
        key = (tensor.root, tensor.dtype, tensor.shape)
        return self._cached(key, self._get_block_list, tensor)

    def _fetch(self, name: Digest) -> bytes:
        with self._lock:
            self.blocks_read += 1
        return self._get_block(name)

    def _cached(self, key: Hashable, fetch: Callable[[_Wanted], bytes], wanted: _Wanted) -> bytes:
        with self._lock:
            found = self._cache.get(key)
            if found is None:
                mine: Future[bytes] = Future()
                self._cache[key] = mine
            else:
                self._cache.move_to_end(key)
        if found is not None:
            return found if isinstance(found, bytes) else found.result()
        try:
            data = fetch(wanted)
        except BaseException as error:
            with self._lock:
                del self._cache[key]
            mine.set_exception(error)
            raise
        mine.set_result(data)
        with self._lock:
            self._cache[key] = data
            self._cached_bytes += len(data)
            while self._cached_bytes > self.budget_bytes:
                oldest, dropped = next(
                    (name, kept) for name, kept in self._cache.items() if isinstance(kept, bytes)
                )
                self._cached_bytes -= len(dropped)
                del self._cache[oldest]
        return data


def split(names: bytes) -> tuple[Digest, ...]:
    """Return the digests that a string of bytes consists of."""
    return tuple(Digest(names[i : i + DIGEST_BYTES]) for i in range(0, len(names), DIGEST_BYTES))
