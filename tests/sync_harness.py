"""For tests of the machines: what is said in a federation, on a disk, and between a few peers by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from crdtmerge import testing
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.errors import RejectedError
from crdtmerge.keys import NodeId
from crdtmerge.op import Operation
from crdtmerge.opset import OpSet
from crdtmerge.simulations.disk import Blocks, Disk
from crdtmerge.sync.chance import Chance
from crdtmerge.sync.config import Config
from crdtmerge.sync.events import (
    Call,
    Failure,
    ForgetAttestations,
    Output,
    StoreAttestation,
    StoreBlock,
    StoreManifest,
    StoreOperations,
    StoreRecord,
    StoreTensor,
)
from crdtmerge.sync.messages import Reply, Request
from crdtmerge.sync.peer import Peer
from crdtmerge.sync.records import NodeRecord

__all__ = ["Blocks", "Disk", "Party", "calls", "id_of", "record_of", "store"]

NOW_MS = 1_000_000


def id_of(number: int) -> Digest:
    """Return a digest that stands for a number."""
    return digest(Domain.OPERATION, number.to_bytes(8, "big"))


def record_of(name: str, *, sequence: int = 1, expires_ms: int = 10 * NOW_MS) -> NodeRecord:
    """Return the record of somebody."""
    return NodeRecord.sign(
        testing.key(name),
        addresses=[f"{name}.example:7946"],
        leaf=b"leaf",
        sequence=sequence,
        expires_ms=expires_ms,
    )


def calls(outputs: Iterable[Output], kind: type[Request] | None = None) -> list[Call]:
    """Return the calls among outputs, of one kind if given."""
    found = [output for output in outputs if isinstance(output, Call)]
    return [call for call in found if kind is None or isinstance(call.request, kind)]


def store(disk: Disk, outputs: Iterable[Output]) -> None:
    """Carry out what outputs say is to be stored."""
    for output in outputs:
        match output:
            case StoreOperations(operations):
                disk.operations.update((operation.id, operation) for operation in operations)
            case StoreManifest(manifest):
                disk.manifests[manifest.digest] = manifest
            case StoreTensor(root, _, _, blocks):
                disk.tensors[root] = blocks
            case StoreBlock(block):
                disk.blocks[block.digest] = block.data
            case StoreRecord(node, data):
                disk.records[node] = data
            case StoreAttestation(attested):
                disk.attestations[attested.id] = attested.encoded
            case ForgetAttestations(attestations):
                for attested in attestations:
                    disk.attestations.pop(attested.id, None)


class Party:
    """Peers of one federation whose calls are answered at once, in order, unless a test interferes.

    Attributes:
        peers, disks: by name.
        log: every call that was made, with the caller's name.
        interfere: given the caller's name and the call, returns how it ends, or None to let it through.
    """

    def __init__(
        self, story: testing.Story, people: Mapping[str, OpSet | None], *, config: Config | None = None
    ) -> None:
        self.now_ms = NOW_MS
        self.story = story
        self.peers: dict[str, Peer] = {}
        self.disks: dict[str, Disk] = {}
        self.log: list[tuple[str, Call]] = []
        self.outputs: list[tuple[str, Output]] = []
        self.interfere: Callable[[str, Call], Reply | Failure | None] = lambda name, call: None
        self._queue: list[tuple[str, Output]] = []
        self._names = {testing.Story.id(name): name for name in people}
        records = [record_of(name).encoded for name in people]
        for name, ops in people.items():
            self.disks[name] = Disk()
            self.peers[name] = Peer(
                testing.Story.id(name),
                story.ops.copy() if ops is None else ops,
                self.disks[name],
                Chance(name.encode()),
                config=config,
                record=record_of(name).encoded,
                records=records,
            )
        for name, peer in self.peers.items():
            self.do(name, peer.on_start(self.now_ms))

    def do(self, name: str, outputs: Iterable[Output]) -> None:
        """Carry out somebody's outputs and everything that follows from them."""
        self._take(name, outputs)
        while self._queue:
            caller, output = self._queue.pop(0)
            if isinstance(output, Call):
                self.log.append((caller, output))
                self._finish(caller, output, self.interfere(caller, output))

    def ask(self, sender: str, to: str, request: Request) -> Reply:
        """Have somebody ask something, and return the reply."""
        reply, outputs = self.peers[to].on_request(self.now_ms, self.id(sender), request)
        self.do(to, outputs)
        return reply

    def say(self, name: str, *operations: Operation) -> None:
        """Have somebody publish operations."""
        self.do(name, self.peers[name].on_local(self.now_ms, operations))

    def wait(self, duration_ms: int, *names: str) -> None:
        """Let time pass, for some people or for all."""
        until_ms = self.now_ms + duration_ms
        while True:
            due = [
                (when, name)
                for name in names or self.peers
                if (when := self.peers[name].next_tick_ms) is not None and when <= until_ms
            ]
            if not due:
                break
            when, name = min(due)
            self.now_ms = max(self.now_ms, when)
            self.do(name, self.peers[name].on_tick(self.now_ms))
        self.now_ms = until_ms

    def asked(self, kind: type[Request]) -> list[tuple[str, Call]]:
        """Return the calls of one kind that were made."""
        return [(name, call) for name, call in self.log if isinstance(call.request, kind)]

    def agreed(self) -> bool:
        """Whether all have the same operations that count."""
        return len({peer.view.state_root for peer in self.peers.values()}) == 1

    @staticmethod
    def id(name: str) -> NodeId:
        """Return somebody's node id."""
        return testing.Story.id(name)

    def _take(self, name: str, outputs: Iterable[Output]) -> None:
        outputs = list(outputs)
        store(self.disks[name], outputs)
        self.outputs += [(name, output) for output in outputs]
        self._queue += [(name, output) for output in outputs]

    def _finish(self, caller: str, call: Call, end: Reply | Failure | None) -> None:
        peer = self.peers[caller]
        if end is None:
            callee = self._names[call.to]
            try:
                end, outputs = self.peers[callee].on_request(self.now_ms, self.id(caller), call.request)
                self._take(callee, outputs)
            except RejectedError:
                end = Failure.REFUSED
        if isinstance(end, Failure):
            self._take(caller, peer.on_failed(self.now_ms, call.call_id, end))
        else:
            self._take(caller, peer.on_reply(self.now_ms, call.call_id, end))
