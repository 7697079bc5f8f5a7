"""Merkle sets and maps: who has the same digests, and which digests are in.

A crit-bit (Patricia) trie over the 256 bits of the keys, most significant bit first. A branch stands
where keys first differ, so the shape follows from the set of keys alone, whatever the order of arrival:

    {0010…, 0101…, 0111…}              branch 1
                                    ┌─────┴─────┐
                                  0010…      branch 2
                                           ┌────┴────┐
                                         0101…     0111…

Always true here: sets and maps never change; an added or removed key gives another one, which shares all
but one path with it, so versions are cheap to keep. Hashes (see `crdtmerge.proof`) are computed when
first asked for. Iteration ascends. A map's root is that of its set of keys: values are not hashed.

Why not a Merkle tree over the sorted list: docs/adr/0002-patricia-trie.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from itertools import pairwise
from typing import Final, Generic, Self, TypeAlias, TypeVar

from crdtmerge.digest import DIGEST_BYTES, Digest
from crdtmerge.errors import ParameterError
from crdtmerge.proof import BITS, Proof, bit_of, branch_hash, check, leaf_hash, root_hash, root_of

__all__ = ["EMPTY", "MerkleMap", "MerkleSet", "Proof", "check", "root_of"]

K = TypeVar("K", bound=bytes)
V = TypeVar("V")


class _Leaf(Generic[K, V]):
    __slots__ = ("hash", "key", "value")

    def __init__(self, key: K, value: V) -> None:
        if len(key) != DIGEST_BYTES:
            raise ParameterError(f"a key has {DIGEST_BYTES} bytes, got {len(key)}")
        self.key, self.value = key, value
        self.hash: Digest | None = None


class _Branch(Generic[K, V]):
    __slots__ = ("bit", "hash", "left", "right")

    def __init__(self, bit: int, left: _Node[K, V], right: _Node[K, V]) -> None:
        self.bit, self.left, self.right = bit, left, right
        self.hash: Digest | None = None


_Node: TypeAlias = _Leaf[K, V] | _Branch[K, V]


class _Trie(Generic[K, V]):
    """What sets and maps have in common."""

    __slots__ = ("_count", "_top")

    _top: _Node[K, V] | None
    _count: int

    @property
    def root(self) -> Digest:
        """The digest that stands for the whole set of keys."""
        return root_hash(self._count, None if self._top is None else _hash(self._top))

    def prove(self, key: K) -> Proof:
        """Return the proof that ``key`` is in, or that it is not; `check` verifies it."""
        path: list[tuple[int, Digest]] = []
        node = self._top
        while isinstance(node, _Branch):
            nearer, sibling = (node.right, node.left) if bit_of(key, node.bit) else (node.left, node.right)
            path.append((node.bit, _hash(sibling)))
            node = nearer
        return Proof(Digest(key), self._count, None if node is None else Digest(node.key), tuple(path))

    def remove(self, key: K) -> Self:
        """Return what is left without ``key``, which need not be in."""
        return self._made(_without(self._top, key), self._count - 1) if key in self else self

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and _find(self._top, key) is not None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[K]:
        return (leaf.key for leaf in self._leaves())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._count} keys, root {self.root.hex()[:12]}…)"

    def _leaves(self) -> Iterator[_Leaf[K, V]]:
        rest = [] if self._top is None else [self._top]
        while rest:
            node = rest.pop()
            while isinstance(node, _Branch):
                rest.append(node.right)
                node = node.left
            yield node

    @classmethod
    def _made(cls, top: _Node[K, V] | None, count: int) -> Self:
        made = object.__new__(cls)
        made._top, made._count = top, count
        return made


class MerkleMap(_Trie[K, V], Mapping[K, V]):
    """An immutable map from keys of 32 bytes, in ascending order; None is no value."""

    __slots__ = ()

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        leaves = [_Leaf(key, items[key]) for key in sorted(items)] if items else []
        self._top, self._count = _build(leaves), len(leaves)

    def set(self, key: K, value: V) -> MerkleMap[K, V]:
        """Return the map in which ``key`` has ``value``."""
        top, new = _with(self._top, _Leaf(key, value))
        return self._made(top, self._count + new)

    def update(self, changes: Mapping[K, V | None]) -> MerkleMap[K, V]:
        """Return the map with other values for some keys, and without the keys whose value is None.

        Few changes are made one by one; for many the map is built anew, which is quicker then.
        """
        if len(changes) * 4 < len(self):
            changed = self
            for key, value in changes.items():
                changed = changed.remove(key) if value is None else changed.set(key, value)
            return changed
        merged = {leaf.key: leaf.value for leaf in self._leaves()} | dict(changes)
        return MerkleMap({key: value for key, value in merged.items() if value is not None})

    @property
    def keyset(self) -> MerkleSet:
        """The set of the keys, at no cost."""
        return MerkleSet._made(self._top, self._count)  # type: ignore[arg-type] # nodes never change

    def __getitem__(self, key: K) -> V:
        leaf = _find(self._top, key)
        if leaf is None:
            raise KeyError(key)
        return leaf.value


class MerkleSet(_Trie[Digest, object], Set[Digest]):
    """An immutable set of digests, in ascending order; equal sets have equal roots."""

    __slots__ = ()

    def __init__(self) -> None:
        self._top, self._count = None, 0

    @classmethod
    def of(cls, digests: Iterable[Digest]) -> MerkleSet:
        """Return the set of ``digests``.

        Raises:
            ParameterError: if one has not 32 bytes.
        """
        return MerkleMap(dict.fromkeys(digests, True)).keyset

    def add(self, key: Digest) -> MerkleSet:
        """Return the set with ``key``."""
        leaf: _Leaf[Digest, object] = _Leaf(key, True)
        top, new = _with(self._top, leaf)
        return self._made(top, self._count + 1) if new else self

    def union(self, keys: Collection[Digest]) -> MerkleSet:
        """Return the set with all of ``keys``; like `MerkleMap.update`, cheap for few and for many."""
        if len(keys) * 4 > len(self):
            return MerkleSet.of([*self, *keys])
        grown = self
        for key in keys:
            grown = grown.add(key)
        return grown

    def __eq__(self, other: object) -> bool:
        return self.root == other.root if isinstance(other, MerkleSet) else Set.__eq__(self, other)

    def __hash__(self) -> int:
        return hash(self.root)

    @classmethod
    def _from_iterable(cls, it: Iterable[Digest]) -> MerkleSet:  # type: ignore[override]
        return cls.of(it)


EMPTY: Final = MerkleSet()


def _hash(node: _Node[K, V]) -> Digest:
    if node.hash is None:
        if isinstance(node, _Branch):
            node.hash = branch_hash(node.bit, _hash(node.left), _hash(node.right))
        else:
            node.hash = leaf_hash(node.key)
    return node.hash


def _first_difference(one: bytes, other: bytes) -> int:
    return BITS - (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_length()


def _nearest(node: _Node[K, V], key: bytes) -> _Leaf[K, V]:
    while isinstance(node, _Branch):
        bit = node.bit  # bit_of, written out: this loop is what every lookup spends its time in
        node = node.right if key[bit >> 3] >> (7 - (bit & 7)) & 1 else node.left
    return node


def _find(top: _Node[K, V] | None, key: bytes) -> _Leaf[K, V] | None:
    if top is None or len(key) != DIGEST_BYTES:
        return None
    leaf = _nearest(top, key)
    return leaf if leaf.key == key else None


def _build(leaves: list[_Leaf[K, V]]) -> _Node[K, V] | None:
    """Return the trie over ascending leaves, in one pass."""
    if not leaves:
        return None
    node: _Node[K, V] = leaves[0]
    unfinished: list[tuple[int, _Node[K, V]]] = []  # bits and left sides of the branches above, top down
    for before, leaf in pairwise(leaves):
        bit = _first_difference(before.key, leaf.key)
        while unfinished and unfinished[-1][0] > bit:
            node = _Branch(*unfinished.pop(), node)
        unfinished.append((bit, node))
        node = leaf
    while unfinished:
        node = _Branch(*unfinished.pop(), node)
    return node


def _with(top: _Node[K, V] | None, leaf: _Leaf[K, V]) -> tuple[_Node[K, V], bool]:
    """Return the trie with ``leaf``, and whether its key is new."""
    if top is None:
        return leaf, True
    bit = _first_difference(leaf.key, _nearest(top, leaf.key).key)
    above, node = _descend(top, leaf.key, bit)
    new: _Node[K, V] = leaf
    if bit < BITS:
        new = _Branch(bit, node, leaf) if bit_of(leaf.key, bit) else _Branch(bit, leaf, node)
    return _replaced(above, leaf.key, new), bit < BITS


def _without(top: _Node[K, V] | None, key: bytes) -> _Node[K, V] | None:
    """Return the trie without ``key``, which is in it."""
    assert top is not None  # noqa: S101 - it holds the key
    above, _ = _descend(top, key, BITS)
    if not above:
        return None
    parent = above.pop()
    return _replaced(above, key, parent.left if bit_of(key, parent.bit) else parent.right)


def _descend(node: _Node[K, V], key: bytes, bit: int) -> tuple[list[_Branch[K, V]], _Node[K, V]]:
    """Return the branches above ``bit`` on the way of ``key``, top down, and what is below them."""
    above = []
    while isinstance(node, _Branch) and node.bit < bit:
        above.append(node)
        node = node.right if bit_of(key, node.bit) else node.left
    return above, node


def _replaced(above: list[_Branch[K, V]], key: bytes, node: _Node[K, V]) -> _Node[K, V]:
    """Return copies of the branches ``above`` with ``node`` at the end of the way of ``key``."""
    for branch in reversed(above):
        if bit_of(key, branch.bit):
            node = _Branch(branch.bit, branch.left, node)
        else:
            node = _Branch(branch.bit, node, branch.right)
    return node
