"""The real digits that ship with the package, dealt out to peers that see very different parts of them.

`digits.npz` holds 1,797 handwritten 8x8 digits (DIGITS-LICENSE.txt says whose). They are cut into three:

    test    what every accuracy is measured on; nobody trains on it
    base    the little that is public; the common base model is trained on it
    shards  the rest, private to the peers and far from alike: of each class, the peers' portions are
            drawn from a Dirichlet distribution, so a peer may hold hundreds of one digit and none of another

Every draw comes from a seed that the caller gives. This is an application, not the merge: NumPy's
generator may be used here, and only here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from crdtmerge.errors import ParameterError

Images: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]

PIXELS: Final = 64
CLASSES: Final = 10

TEST_EXAMPLES: Final = 500
BASE_EXAMPLES: Final = 40
SHARD_EXAMPLES_MIN: Final = 16
"""A peer with less than this is no team; the deal is drawn again."""
DEALS_MAX: Final = 1000
CONCENTRATION: Final = 0.3
"""Of the Dirichlet distribution: 0.3 is the common choice for "strongly non-IID"."""


@dataclass(frozen=True)
class Examples:
    """Images and what they show.

    Attributes:
        images: float32 of shape [n, 64], pixels in 0..1.
        labels: int64 of shape [n], 0..9.
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.int64]) -> Examples:
        """Return some of the examples, in the order of their row numbers as given."""
        return Examples(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Parts:
    """The digits, cut up: see the module."""

    test: Examples
    base: Examples
    shards: tuple[Examples, ...]


def load() -> Examples:
    """Read all the digits, in the order in which scikit-learn has them."""
    with (resources.files(__package__) / "digits.npz").open("rb") as file, np.load(file) as arrays:
        images = arrays["images"].reshape(-1, PIXELS).astype(np.float32) / np.float32(16)
        return Examples(images, arrays["labels"].astype(np.int64))


def deal(peers: int, *, seed: int, concentration: float = CONCENTRATION) -> Parts:
    """Cut the digits into test, base and one shard for each peer.

    Args:
        peers: how many shards; 1..32.
        seed: decides everything; equal seeds give equal parts, and the same test and base examples for
            any number of peers.
        concentration: of the Dirichlet distribution; smaller is less alike.

    Raises:
        ParameterError: if there are too many peers for the data.
    """
    if not 1 <= peers <= 32:
        raise ParameterError(f"1 to 32 peers can share the digits, got {peers}")
    digits = load()
    order = np.random.default_rng([seed, 0]).permutation(len(digits))
    test, base, private = np.split(order, [TEST_EXAMPLES, TEST_EXAMPLES + BASE_EXAMPLES])
    generator = np.random.default_rng([seed, 1])
    for _ in range(DEALS_MAX):
        shards = _shards(private, digits.labels, peers, concentration, generator)
        if min(len(rows) for rows in shards) >= SHARD_EXAMPLES_MIN:
            return Parts(digits.take(test), digits.take(base), tuple(digits.take(rows) for rows in shards))
    raise ParameterError(
        f"no deal leaves each of {peers} peers {SHARD_EXAMPLES_MIN} examples; take fewer peers"
    )


def _shards(
    rows: npt.NDArray[np.int64],
    labels: Labels,
    peers: int,
    concentration: float,
    generator: np.random.Generator,
) -> list[npt.NDArray[np.int64]]:
    """Deal each class by portions of its own."""
    hands: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(peers)]
    for digit in range(CLASSES):
        of_class = rows[labels[rows] == digit]
        portions = generator.dirichlet(np.full(peers, concentration))
        cuts = np.floor(np.cumsum(portions)[:-1] * len(of_class)).astype(np.int64)
        for hand, part in zip(hands, np.split(of_class, cuts), strict=True):
            hand.append(part)
    return [np.sort(np.concatenate(hand)) for hand in hands]
