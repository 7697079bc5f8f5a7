"""A plan carried out in tiles, within a memory budget.

    reader ─► decode ─► survey pass(es) ─► merge ─► one rounding ─► sink

Tiles are read and merged by a few threads and handed to the sink in order. How a tensor is cut and how
many threads work has no influence on any bit; both follow from the budget alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from crdtmerge import arith
from crdtmerge.digest import Readable
from crdtmerge.errors import NonFiniteError, ParameterError
from crdtmerge.limits import BLOCK_BYTES, MIB
from crdtmerge.store import Reader
from crdtmerge.strategy import Survey, Tile

from .admission import Progress
from .assign import Assignment, Output
from .attachments import read_evidence, read_factors
from .inputs import read_contribution, stored
from .ordered import in_order
from .plan import Plan

BUDGET_BYTES: Final = 1024 * MIB
"""Memory for tiles if the caller names none."""

_TILE_MIN: Final = 1 << 12
_TILE_MAX: Final = 1 << 17
"""Elements; from 2^16 on elementwise work runs at the speed of memory, below it at Python's."""

_TILE_MAX_COMPILED: Final = 1 << 19
"""The same where compiled loops leave Python more to wait for; but no more than a stored block has."""

_LARGE: Final = 1 << 26
"""Elements, of all contributions, from which on a second for loading compiled loops is well spent."""

_WHOLE: Final = 64
"""As how many elements one counts there whose strategy wants tensors whole: most decompose them."""

_DERIVED: Final = 3
"""float64 arrays that a strategy makes for each contribution's array: difference, mask, product."""

_FIXED: Final = 8
"""float64 arrays that a strategy makes whatever the number of contributions."""


class Sink(Protocol):
    """Where merged bytes go."""

    def room(self, name: str, begin: int, end: int) -> memoryview | None:
        """Return memory for bytes ``[begin, end)`` of a tensor, in any order; None: hand them over."""

    def write(self, name: str, begin: int, raw: Readable) -> None:
        """Take the bytes of one tensor from ``begin`` on; tensors and tiles arrive in order."""


@dataclass(frozen=True)
class _Piece:
    assignment: Assignment
    output: Output
    start: int
    stop: int

    @property
    def begin(self) -> int:
        """The first byte."""
        return self.start * self.output.dtype.itemsize

    @property
    def end(self) -> int:
        """Behind the last byte."""
        return self.stop * self.output.dtype.itemsize


def execute(
    plan: Plan,
    reader: Reader,
    sink: Sink,
    *,
    budget_bytes: int = BUDGET_BYTES,
    threads: int = 1,
    done: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> None:
    """Carry out ``plan`` into ``sink``.

    Args:
        plan: what to do.
        reader: of the content; what its cache holds counts for itself.
        sink: takes the merged bytes.
        budget_bytes: for tiles; what surveys hold comes on top. Does not influence the result.
        threads: that merge at the same time; does not influence the result.
        done: names of tensors that the sink already has.
        progress: called with the number of merged elements times contributions, surveys included.

    Raises:
        EnvironmentRefusedError: if this thread does not compute as IEEE 754 says.
        ParameterError: if one tensor does not fit the budget and its strategy needs it whole.
        NonFiniteError: if a merged value does not fit its dtype.
        NotYetError, CorruptBlockError: if content vanished or rotted since the plan was made.
    """
    if _work(plan) >= _LARGE:
        arith.compiled.load()
    arith.environment.check()  # surveys run on this thread, and the workers take its mode over
    width = _tile_elements(plan, budget_bytes, threads)
    for assignment in plan.assignments:
        survey = _survey(plan, reader, assignment, width, threads, progress)
        pieces = [
            piece
            for output in assignment.outputs
            if output.name not in done
            for piece in _cut(assignment, output, width, budget_bytes)
        ]

        def merge(piece: _Piece, survey: Survey | None = survey) -> memoryview | None:
            room = sink.room(piece.output.name, piece.begin, piece.end)
            raw = memoryview(bytearray(piece.end - piece.begin)) if room is None else room
            _merge(plan, reader, piece, survey, raw)
            return raw if room is None else None

        # Where nothing is to be written meanwhile, a thread beside this one would only be waited for.
        in_place = pieces and sink.room(pieces[0].output.name, 0, 0) is not None
        for piece, raw in in_order(merge, pieces, 0 if in_place and threads == 1 else threads):
            if raw is not None:
                sink.write(piece.output.name, piece.begin, raw)
            if progress is not None:
                progress(piece.stop - piece.start)
    for tensor in plan.copied:
        if tensor.name in done:
            continue
        for begin in range(0, tensor.bytes, BLOCK_BYTES):
            sink.write(tensor.name, begin, reader.read(tensor, begin, min(begin + BLOCK_BYTES, tensor.bytes)))


def passes(plan: Plan) -> int:
    """Return the elements that `execute` will report as progress if every survey takes one pass."""
    return sum(map(_passes, plan.assignments))


def _passes(assignment: Assignment) -> int:
    elements = sum(output.elements for output in assignment.outputs)
    return elements * (1 if assignment.strategy.survey is None else 2)


def _work(plan: Plan) -> int:
    """Return how many elements, of all contributions, take about as long one by one."""
    return len(plan.contributions) * sum(
        _passes(assignment) * (_WHOLE if assignment.needs.scope == "tensor" else 1)
        for assignment in plan.assignments
    )


def _survey(
    plan: Plan, reader: Reader, assignment: Assignment, width: int, threads: int, progress: Progress | None
) -> Survey | None:
    if assignment.strategy.survey is None:
        return None
    survey = assignment.strategy.survey(assignment.group, **assignment.arguments)
    if survey is None:
        return None
    ahead = 0 if arith.compiled.kernels() and threads == 1 else threads  # loops read a tile when it is fed
    complete = False
    while not complete:
        pieces = (p for o in assignment.outputs for p in _cut(assignment, o, width, None))
        for piece, tile in in_order(lambda p: _ready(_tile(plan, reader, p), assignment), pieces, ahead):
            survey.feed(tile)
            if progress is not None:
                progress(piece.stop - piece.start)
        complete = survey.finish()
    return survey


def _ready(tile: Tile, assignment: Assignment) -> Tile:
    """Decode a tile on the thread that read it: most surveys look at differences, or at models."""
    if arith.compiled.kernels() is None:  # which read elements as they are stored
        _ = tile.deltas if assignment.needs.base else tile.models
    return tile


def _tile_elements(plan: Plan, budget_bytes: int, threads: int) -> int:
    """Elements per tile so that all tiles in flight stay within three quarters of the budget."""
    arrays = (1 + _DERIVED) * len(plan.contributions) + _FIXED
    width = budget_bytes * 3 // 4 // (8 * arrays * 2 * max(threads, 1))
    most = _TILE_MAX if arith.compiled.kernels() is None else _TILE_MAX_COMPILED
    return max(_TILE_MIN, min(most, 1 << max(width, 1).bit_length() - 1))


def _cut(assignment: Assignment, output: Output, width: int, budget_bytes: int | None) -> Iterator[_Piece]:
    """Cut one tensor into tiles as its strategy's scope allows."""
    width = min(width, BLOCK_BYTES // output.dtype.itemsize)  # from within one block nothing is copied
    step = width
    if assignment.needs.scope == "row":
        step = max(width // max(output.columns, 1), 1) * max(output.columns, 1)
    elif assignment.needs.scope == "tensor":
        step = max(output.elements, 1)
        needed = 8 * step * ((1 + _DERIVED) * assignment.group.count + _FIXED)
        if budget_bytes is not None and needed > budget_bytes:
            raise ParameterError(
                f"{assignment.strategy.name} needs {output.name} whole: {needed} bytes, "
                f"the budget is {budget_bytes}. Raise the budget."
            )
    for start in range(0, output.elements, step):
        yield _Piece(assignment, output, start, min(start + step, output.elements))


def _tile(plan: Plan, reader: Reader, piece: _Piece) -> Tile:
    output, assignment = piece.output, piece.assignment
    start, stop = piece.start, piece.stop
    strategy, needs = assignment.strategy, assignment.needs
    base = None
    if plan.base is not None:
        base = stored(reader, plan.base.by_name[output.source], start, stop)
    members = [plan.contributions[i] for i in assignment.indices]
    rows = [
        read_contribution(reader, manifest, output.source, output.columns, start, stop)
        for _, manifest in members
    ]
    keys: tuple[bytes, ...] = ()
    if needs.draws:
        keys = tuple(
            arith.draw.key(
                plan.seed, strategy.name, strategy.version, assignment.parameters, digest, output.name
            )
            for digest, _ in members
        )
    whole = needs.scope == "tensor"
    return Tile(
        tensor=output.name,
        shape=output.shape,
        start=start,
        stored_base=base,
        stored=tuple(values for values, _ in rows),
        is_delta=tuple(delta for _, delta in rows),
        group=assignment.group,
        keys=keys,
        evidence={
            kind: tuple(read_evidence(reader, m, kind, output.source, start, stop) for _, m in members)
            for kind in needs.kinds_read
        },
        factors=tuple(read_factors(reader, m, output.source) for _, m in members) if whole else (),
    )


def _merge(plan: Plan, reader: Reader, piece: _Piece, survey: Survey | None, out: memoryview) -> None:
    tile = _tile(plan, reader, piece)
    extra = () if piece.assignment.strategy.survey is None else (survey,)
    merged = piece.assignment.strategy.function(tile, *extra, **piece.assignment.arguments)
    try:
        arith.encode_into(out, merged, piece.output.dtype)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{piece.output.name}: a merged value does not fit {piece.output.dtype.code} "
            f"(near flat index {piece.start}). Choose output_dtype F32 in the recipe.",
            piece.output.name,
        ) from error
