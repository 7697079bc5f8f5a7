"""Every decoder that reads what others send, with good inputs to start from and what it may answer.

A decoder answers with a value or with one of our typed errors, and never with anything else; what it accepts
it would have written the same way. tests/security/test_decoders.py tries a few thousand inputs on each;
``python tools/fuzz.py`` runs campaigns.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from crdtmerge import canon
from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import CrdtMergeError
from crdtmerge.keys import SigningKey
from crdtmerge.limits import BLOCK_BYTES, MANIFEST_BYTES_MAX
from crdtmerge.manifest import Factor, Kind, Manifest, Tensor
from crdtmerge.merkle import MerkleSet
from crdtmerge.node import certificate, identity, packing, ticket, wire
from crdtmerge.node.address import Address
from crdtmerge.op import Add, Admit, Ban, Body, Genesis, Operation, Policy, Retract, Role, SetRecipe
from crdtmerge.proof import Proof
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.store import header
from crdtmerge.sync import messages, ranges
from crdtmerge.sync.attestation import Attestation, Claim
from crdtmerge.sync.records import NodeRecord

KEY: Final = SigningKey(bytes(range(32)))
FEDERATION: Final = digest(Domain.SET, b"federation")
RECIPE: Final = Recipe("ties", version=1, density="0.2", rules=[Rule.of("*.bias", "linear", version=1)])


@dataclass(frozen=True)
class Target:
    """A decoder under attack.

    Attributes:
        decode: returns what the input would be written as, or None where there is no one way to write it.
        seeds: good inputs.
    """

    decode: Callable[[bytes], bytes | None]
    seeds: Sequence[bytes]

    def attack(self, data: bytes) -> bool:
        """Give the decoder an input; whether it was accepted.

        Raises:
            AssertionError: if it is accepted and would be written otherwise.
            Exception: whatever a broken decoder lets through.
        """
        try:
            written = self.decode(data)
        except CrdtMergeError:
            return False
        assert written is None or written == data, "accepted, but it would be written otherwise"
        return True


def _digest(i: int) -> Digest:
    return digest(Domain.SET, bytes([i]))


def _operations() -> list[bytes]:
    genesis = Genesis((KEY.id,), _digest(1), _digest(2), RECIPE, bytes(16), Policy(2, 1 << 30))
    bodies: list[Body] = [
        Add(_digest(3)),
        Retract(tuple(sorted((_digest(4), _digest(5))))),
        Admit(SigningKey(bytes(32)).id, Role.MEMBER),
        Ban(SigningKey(bytes(32)).id, (_digest(6),)),
        SetRecipe(RECIPE, (_digest(7),)),
    ]
    first = Operation.sign(KEY, genesis, federation=None, created_ms=1)
    rest = [Operation.sign(KEY, b, federation=FEDERATION, created_ms=2, prev=(_digest(8),)) for b in bodies]
    return [operation.encoded for operation in (first, *rest)]


def _manifests() -> list[bytes]:
    a, b = Tensor("a", DType.F32, (2, 8), _digest(1)), Tensor("b", DType.F32, (4, 2), _digest(2))
    seen = Tensor("fisher.diag/w", DType.F32, (4, 8), _digest(3))
    factor = Factor("w", "a", "b", (16, 2))
    lora = Manifest(
        Kind.LORA, _digest(4), (a, b), (factor,), metrics=(("loss", "0.5"),), metadata=(("k", "v"),)
    )
    full = Manifest(Kind.FULL, _digest(4), (a,), evidence=(seen,), weight="2.5")
    return [lora.encoded, full.encoded]


def _proofs() -> list[bytes]:
    tree = MerkleSet.of(_digest(i) for i in range(40))
    return [tree.prove(_digest(3)).encode(), tree.prove(_digest(99)).encode()]


def _headers() -> list[bytes]:
    rows = [("w", DType.F32, (4, 8)), ("z", DType.BF16, (3,))]
    return [header.build(rows, {"format": "pt"})[0][header.LENGTH_BYTES :]]


def _header(data: bytes) -> None:
    header.parse(data, file_bytes=header.LENGTH_BYTES + len(data) + 134)


def _leaf() -> bytes:
    authority = certificate.Authority(FEDERATION, bytes(range(1, 33)))
    tls = identity.p256(bytes(range(2, 34))).public_key()
    return authority.issue(KEY, tls, issued_ms=1_700_000_000_000)


def _tickets() -> list[bytes]:
    made = ticket.Ticket(
        FEDERATION,
        KEY.id,
        (Address.parse("example.org:7946"),),
        LEAF,
        bytes(range(1, 33)),
        bytes(32),
        1 << 41,
    )
    encoded = str(made).removeprefix(ticket.PREFIX)
    return [base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))[8:]]


def _ticket(payload: bytes) -> bytes:
    body = digest(Domain.INVITE, payload)[:8] + payload
    text = ticket.PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")
    parsed = str(ticket.parse(text)).removeprefix(ticket.PREFIX)
    return base64.urlsafe_b64decode(parsed + "=" * (-len(parsed) % 4))[8:]


def _messages() -> list[bytes]:
    return [
        bytes([i]) + wire.RPCS[type(message)].request.dump(message)
        for i, message in enumerate(
            (
                messages.PushOps((b"operation", b"another")),
                messages.GetOps((_digest(1), _digest(2))),
                messages.Have((_digest(1),)),
            )
        )
    ]


def _message(data: bytes) -> None:
    kinds = (messages.PushOps, messages.GetOps, messages.Have, messages.Hello, messages.Records)
    wire.RPCS[kinds[data[0] % len(kinds)] if data else kinds[0]].request.parse(data[1:])


def _packed() -> list[bytes]:
    raw = bytes(range(256)) * 64
    base = bytes(reversed(raw))
    return [p for p in (packing.pack(raw, None, width=4), packing.pack(raw, base, width=2)) if p is not None]


def _unpack(data: bytes) -> None:
    assert len(packing.unpack(data, bytes(256 * 64), width=4, bytes_max=BLOCK_BYTES)) <= BLOCK_BYTES


def _ranges() -> list[bytes]:
    said = [
        ranges.Said(b"", b"\1" * 8, ranges.Fingerprint(bytes(16))),
        ranges.Said(b"\1" * 8, b"\2" * 40, ranges.Listing((b"12345678", b"abcdefgh"))),
        ranges.Said(b"\2" * 40, None, ranges.Ask.LIST),
    ]
    return [ranges.write(said)]


def _attestation() -> bytes:
    claim = Claim(recipe=_digest(1), root=_digest(2), inputs=_digest(3), model=_digest(4), result=_digest(5))
    made = Attestation.sign(KEY, claim, federation=FEDERATION, environment="cpython 3.11", created_ms=5)
    return made.encoded


def _record() -> bytes:
    return NodeRecord.sign(
        KEY, addresses=("example.org:7946", "[2001:db8::1]:7946"), leaf=b"leaf", sequence=3, expires_ms=9
    ).encoded


LEAF: Final = _leaf()

TARGETS: Final = {
    "attestation": Target(lambda data: Attestation.decode(data).encoded, [_attestation()]),
    "canon": Target(
        lambda data: canon.encode(canon.decode(data, bytes_max=MANIFEST_BYTES_MAX)),
        [canon.encode([1, -5, "text", b"octets", [None, True, [1 << 40]]])],
    ),
    "certificate": Target(lambda data: (certificate.read(data, FEDERATION), None)[1], [LEAF]),
    "header": Target(_header, _headers()),
    "manifest": Target(lambda data: Manifest.decode(data).encoded, _manifests()),
    "message": Target(_message, _messages()),
    "operation": Target(lambda data: Operation.decode(data).encoded, _operations()),
    "packed": Target(_unpack, _packed() if packing.available() else []),
    "proof": Target(lambda data: Proof.decode(data).encode(), _proofs()),
    "ranges": Target(lambda data: (list(ranges.read(data)), None)[1], _ranges()),
    "recipe": Target(lambda data: Recipe.decode(data).encoded, [RECIPE.encoded]),
    "record": Target(lambda data: NodeRecord.decode(data).encoded, [_record()]),
    "ticket": Target(_ticket, _tickets()),
}

_WORDS: Final = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\xc0", b"\xc4\x00", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\x00" * 7, b"\x91" * 40, b"\xa0",
    b"\xd9\x01x",
    b"-1", b"1e999", b"9" * 40, b"\"", b"{", b"[" * 60, json.dumps("\ud800").encode(),
)  # fmt: skip
"""What parsers trip over: extreme lengths and numbers, nesting, other encodings of the same."""


def mutants(seeds: Sequence[bytes], seed: str, count: int) -> Iterator[bytes]:
    """Yield inputs near the good ones: bits flipped, runs cut, doubled, moved or overwritten, ends lost."""
    draw = random.Random(seed)
    for _ in range(count):
        data = bytearray(draw.choice(seeds))
        for _ in range(1 + int(draw.expovariate(0.7))):
            place = draw.randrange(len(data) + 1)
            length = min(int(draw.expovariate(0.1)), len(data) - place)
            match draw.randrange(7):
                case 0 if place < len(data):
                    data[place] ^= 1 << draw.randrange(8)
                case 1:
                    del data[place : place + length]
                case 2:
                    data[place:place] = data[place : place + length]
                case 3:
                    data[place : place + 1] = draw.choice(_WORDS)
                case 4:
                    del data[place:]
                case 5 if place < len(data):
                    data[place] = draw.randrange(256)
                case _:
                    other = draw.choice(seeds)
                    data[place:] = other[draw.randrange(len(other)) :]
        yield bytes(data)
