"""Every error that crdtmerge raises, in one tree by who is at fault.

    CrdtMergeError
    ├─ UsageError        you asked for something that cannot be done
    ├─ RejectedError     a peer, or a file from outside, offered something that is refused
    ├─ NotYetError       something is absent that a sync may bring
    ├─ StoreError        the disk failed or lied
    ├─ DemoError         the demonstration did not show what it should
    ├─ SimulationError   a simulation broke a promise: a bug of ours
    └─ DivergenceError   two honest results differ: a bug of ours, never caught

Messages say who is at fault, what was got and what was wanted, and what to do. What a program may
want to act on stands in attributes, not only in the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CrdtMergeError(Exception):
    """Root of every error that this package raises on purpose."""


class UsageError(CrdtMergeError):
    """The caller asked for something that cannot be done; nothing was changed."""


class UnknownStrategyError(UsageError):
    """No installed strategy has this name and version; another is never substituted."""

    def __init__(self, name: str, version: int | None, known: Iterable[str]) -> None:
        self.name, self.version, self.known = name, version, tuple(sorted(known))
        what = name if version is None else f"{name} version {version}"
        near = [] if name in self.known else get_close_matches(name, self.known)
        super().__init__(
            f"unknown strategy {what}{': is it ' + ' or '.join(near) + '?' if near else '.'} Choose another "
            "(`crdtmerge strategies` lists those installed), or install the package that brings it."
        )


class ParameterError(UsageError):
    """A parameter of a strategy, a recipe or a call is missing, unknown or out of range."""


class ShapeMismatchError(UsageError):
    """A contribution's tensors do not fit the federation's: names, shapes or dtypes differ.

    Attributes:
        tensors: names of the offending tensors, in order.
    """

    def __init__(self, message: str, tensors: Iterable[str] = ()) -> None:
        self.tensors = tuple(tensors)
        super().__init__(message)


class NonFiniteError(UsageError):
    """A tensor holds NaN or infinity, or a result does not fit its output dtype.

    Attributes:
        tensor: the tensor's name.
    """

    def __init__(self, message: str, tensor: str = "") -> None:
        self.tensor = tensor
        super().__init__(message)


class EvidenceError(UsageError):
    """Evidence breaks a rule of its kind, or was computed for other weights than it comes with.

    Attributes:
        tensor: name of the evidence at fault.
    """

    def __init__(self, message: str, tensor: str = "") -> None:
        self.tensor = tensor
        super().__init__(message)


class UnrelatedBaseWarning(UserWarning):
    """A contribution shares no visible ancestry with the base (cosine near 0): averaging them is noise."""


class MissingBaseError(UsageError):
    """The recipe's strategy works on differences from a base, and there is none."""


class EmptySetError(UsageError):
    """There is no visible contribution to merge."""


class PermissionDeniedError(UsageError):
    """This key lacks the role that the operation asks for."""


class EnvironmentRefusedError(UsageError):
    """The process' floating-point environment would change results (denormals flushed, …)."""


class RejectedError(CrdtMergeError):
    """Something from outside was refused; nothing of it was kept."""


class MalformedError(RejectedError):
    """Bytes that are not the one canonical encoding of what they claim to be."""


class SignatureError(RejectedError):
    """A signature does not verify under the key that it names."""


class DigestMismatchError(RejectedError):
    """Bytes do not have the digest under which they were offered.

    Attributes:
        wanted, got: the two digests.
    """

    def __init__(self, what: str, *, wanted: bytes, got: bytes) -> None:
        self.wanted, self.got = wanted, got
        super().__init__(f"{what}: wanted digest {wanted.hex()}, got {got.hex()}")


class LimitError(RejectedError):
    """Something from outside exceeds a limit of limits.py."""


class PolicyError(RejectedError):
    """A peer is not a member, is banned, or did what its role does not allow."""


class NotYetError(CrdtMergeError):
    """Something is absent here that a sync may bring.

    Attributes:
        wanted: digests of what is missing, in ascending order.
    """

    def __init__(self, message: str, wanted: Iterable[bytes] = ()) -> None:
        self.wanted = tuple(sorted(wanted))
        super().__init__(message)


class StoreError(CrdtMergeError):
    """The disk failed, or holds something else than was written."""


class CorruptBlockError(StoreError):
    """Stored bytes no longer have their digest.

    Attributes:
        wanted, got: the digest under which the bytes are stored, and theirs.
        where: the file, if there is one.
    """

    def __init__(self, what: str, *, wanted: bytes, got: bytes, where: str = "") -> None:
        self.wanted, self.got, self.where = wanted, got, where
        place = f" in {where}" if where else ""
        super().__init__(
            f"{what}{place} is corrupt: wanted digest {wanted.hex()}, got {got.hex()}. "
            "Remove it and sync again: any peer that holds it can replace it."
        )


class OutOfSpaceError(StoreError):
    """The disk is full, or would be."""


class LockedError(StoreError):
    """Another process serves this home."""


class DemoError(CrdtMergeError):
    """A process of the demonstration did not do what it was asked to, or a promise did not hold."""


class SimulationError(CrdtMergeError):
    """A simulation broke a promise of the protocol: a bug of ours; its seed replays it.

    Attributes:
        promise: which one, such as "G2".
    """

    def __init__(self, message: str, *, promise: str) -> None:
        self.promise = promise
        super().__init__(message)


class DivergenceError(CrdtMergeError):
    """Two replicas computed different models from the same inputs: a bug, never to be caught.

    Attributes:
        ours, theirs: the digests of the two results.
        our_environment, their_environment: where they were computed, as the two sides say.
    """

    def __init__(
        self,
        message: str,
        *,
        ours: bytes,
        theirs: bytes,
        our_environment: str = "",
        their_environment: str = "",
    ) -> None:
        self.ours, self.theirs = ours, theirs
        self.our_environment, self.their_environment = our_environment, their_environment
        where = our_environment and f" ({our_environment})", their_environment and f" ({their_environment})"
        super().__init__(f"{message}: ours {ours.hex()}{where[0]}, theirs {theirs.hex()}{where[1]}")
