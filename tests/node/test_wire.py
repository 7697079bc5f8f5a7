"""What goes onto the wire comes off it unchanged, and nothing else comes off it."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
from google.protobuf import message_factory
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, MalformedError, RejectedError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.node import wire
from crdtmerge.sync import messages
from crdtmerge.sync.messages import Reply, Request

FORMS = [form for rpc in wire.RPCS.values() for form in (rpc.request, rpc.reply)]
ROOT = Digest(b"d" * 32)
EXAMPLES = [
    messages.Hello(b"n" * 16, Digest(b"f" * 32), Digest(b"s" * 32), Digest(b"b" * 32), b"record", bytes(96)),
    messages.Hello(b"n" * 16, Digest(b"f" * 32), Digest(b"s" * 32), Digest(b"b" * 32)),
    messages.HelloReply(b"n" * 16, Digest(b"s" * 32), Digest(b"b" * 32), b"o", b"r", b"record", b"genesis"),
    messages.Reconcile(messages.Space.RECORDS, b"s" * 32, b"payload"),
    messages.PushOps((b"", b"a")),
    messages.PushOps((b"a",), False),
    messages.PushOpsReply(0),
    messages.PushOpsReply(64),
    messages.GetOps((Digest(b"a" * 32), Digest(b"b" * 32))),
    messages.GetOpsReply(()),
    messages.Records((b"r",), (Digest(b"i" * 32),)),
    messages.Records((b"a",), (), messages.Space.ATTESTATIONS),
    messages.Hello(b"n" * 16, ROOT, ROOT, ROOT, attested_root=b"a" * 32),
    messages.HelloReply(b"n" * 16, ROOT, ROOT, attestations=b"payload"),
    messages.GetBlock(Digest(b"d" * 32), messages.Coding.PACKED, b"b" * 32, 2),
    messages.GetBlockReply(b"packed", messages.Coding.PACKED),
    messages.Have(()),
    messages.HaveReply(b"\x01"),
    messages.GetBlock(Digest(b"d" * 32)),
    messages.GetBlockReply(None),
    messages.GetBlockReply(b""),
    messages.GetBlockReply(bytes(1 << 20)),
    messages.GetMeta(messages.Meta.TENSOR, Digest(b"d" * 32), 1 << 25),
    messages.GetMetaReply(0),
    messages.GetMetaReply(1 << 26, b"chunk"),
]


def form_of(message: object) -> wire.Form:
    return next(form for form in FORMS if isinstance(message, form.plain))


def test_every_message_of_the_machines_has_a_twin_with_the_same_fields() -> None:
    assert {form.plain for form in FORMS} == {*get_args(_resolved(Request)), *get_args(_resolved(Reply))}
    for form in FORMS:
        assert {field.name for field in fields(form.plain)} == set(form.twin.DESCRIPTOR.fields_by_name), (
            form.plain
        )


def _resolved(alias: Any) -> Any:
    return eval(alias, vars(messages)) if isinstance(alias, str) else alias  # noqa: S307 - our own names


def test_every_enumeration_has_a_constant_for_each_member() -> None:
    for form in FORMS:
        for name, enum in form.enums:
            described = form.twin.DESCRIPTOR.fields_by_name[name].enum_type
            assert described is not None
            wanted = {f"{enum.__name__}_{member.name}".upper() for member in enum}
            assert set(described.values_by_name) == wanted | {f"{enum.__name__}_UNSPECIFIED".upper()}


def test_only_fields_that_may_be_none_are_optional() -> None:
    for form in FORMS:
        hints = get_type_hints(form.plain)
        for field in form.twin.DESCRIPTOR.fields:
            assert field.has_presence == (type(None) in get_args(hints[field.name])), (form.plain, field.name)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_comes_off_the_wire_as_it_went_on(message: object) -> None:
    form = form_of(message)
    assert form.parse(form.dump(message)) == message


def test_the_largest_messages_fit_under_the_limit_of_the_transport() -> None:
    from crdtmerge.limits import MESSAGE_BYTES_MAX

    digest = Digest(bytes(32))
    for message in (
        messages.GetBlockReply(bytes(1 << 20)),
        messages.PushOps((bytes(16 * 1024),) * 64),
        messages.Records((bytes(4 * 1024),) * 256, (digest,) * 256),
        messages.Have((digest,) * 16_384),
    ):
        assert len(form_of(message).dump(message)) <= MESSAGE_BYTES_MAX


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.plain.__name__)
@given(data=st.binary(max_size=100))
def test_bytes_from_outside_are_a_message_or_refused(form: wire.Form, data: bytes) -> None:
    with contextlib.suppress(RejectedError):
        assert isinstance(form.parse(data), form.plain)


BLOCK_REPLY = wire.RPCS[messages.GetBlock].reply


def as_protobuf_reads(data: bytes) -> messages.GetBlockReply | None:
    """The reply as the library alone would have it; None where it, or the message, refuses."""
    try:
        twin: Any = BLOCK_REPLY.twin.FromString(data)
        coding = [None, *messages.Coding][twin.coding]
    except (DecodeError, IndexError):
        return None
    if coding is None or len(twin.data) > BLOCK_BYTES:
        return None
    return messages.GetBlockReply(twin.data if twin.HasField("data") else None, coding)


@pytest.mark.parametrize("size", [0, 1, 127, 128, wire.BULK_BYTES - 1, wire.BULK_BYTES, BLOCK_BYTES])
def test_a_block_goes_past_protobuf_as_the_same_bytes(size: int) -> None:
    for coding, constant in ((messages.Coding.RAW, 1), (messages.Coding.PACKED, 2)):
        reply = messages.GetBlockReply(bytes(size), coding)
        data = BLOCK_REPLY.dump(reply)
        assert data == BLOCK_REPLY.twin(data=bytes(size), coding=constant).SerializeToString()
        assert BLOCK_REPLY.parse(data) == reply


LARGE = BLOCK_REPLY.dump(messages.GetBlockReply(b"x" * wire.BULK_BYTES))
HEAD = len(LARGE) - wire.BULK_BYTES - 2


@pytest.mark.parametrize(
    "data",
    [
        LARGE[:-3],
        LARGE[:HEAD] + LARGE[HEAD + 100 :],
        LARGE[:1] + b"\xff\xff\xff\xff\x7f" + LARGE[HEAD:],
        LARGE[:1] + b"\xff" * 12 + LARGE[HEAD:],
        LARGE[:1] + b"\x80\x80\x81\x80\x00" + LARGE[HEAD:],
        LARGE + b"\x0a\x01y",
        LARGE + b"\x0a\x00",
        LARGE + LARGE,
        LARGE + b"\x10\x02",
        LARGE + b"\x10\x07",
        LARGE + b"\x1a\x01z",
        LARGE + b"\x0b",
        b"\x10\x01" + LARGE[:-2],
        b"\x0a\x00" + LARGE,
        b"\x0a" * 3 * wire.BULK_BYTES,
        BLOCK_REPLY.twin(data=bytes(BLOCK_BYTES + 1), coding=1).SerializeToString(),
    ],
)
def test_an_enemy_s_large_reply_means_what_protobuf_says_it_means(data: bytes) -> None:
    wanted = as_protobuf_reads(data)
    if wanted is None:
        with pytest.raises(RejectedError):
            BLOCK_REPLY.parse(data)
    else:
        assert BLOCK_REPLY.parse(data) == wanted


@given(st.binary(max_size=12), st.integers(0, 12), st.binary(max_size=12))
def test_a_large_reply_with_anything_written_over_it_means_what_protobuf_says(
    written: bytes, at: int, tail: bytes
) -> None:
    data = LARGE[:at] + written + LARGE[at + len(written) :] + tail
    wanted = as_protobuf_reads(data)
    try:
        assert BLOCK_REPLY.parse(data) == wanted
    except RejectedError:
        assert wanted is None


def test_an_unknown_member_of_an_enumeration_is_refused() -> None:
    form = wire.RPCS[messages.GetMeta].request
    for constant in (0, 3, 77):
        with pytest.raises(MalformedError):
            form.parse(form.twin(kind=constant, digest=bytes(32)).SerializeToString())


def test_a_number_that_is_out_of_range_is_refused() -> None:
    form = wire.RPCS[messages.PushOps].reply
    with pytest.raises(MalformedError):
        form.parse(form.twin(accepted=65).SerializeToString())
    meta = wire.RPCS[messages.GetMeta].request
    with pytest.raises(LimitError):
        meta.parse(meta.twin(kind=1, digest=bytes(32), offset=(1 << 64) - 1).SerializeToString())


def test_the_services_have_exactly_the_calls_of_the_protocol() -> None:
    paths = {rpc.path for rpc in wire.RPCS.values()} | {wire.PROBE}
    assert {path.rpartition("/")[2] for path in paths} == {
        *("Hello", "Reconcile", "PushOps", "GetOps", "Records", "Have", "GetBlock", "GetMeta", "Probe")
    }
    for service in (wire.SYNC, wire.BLOBS):
        for method in service.methods:
            assert not method.client_streaming
            assert not method.server_streaming
            assert message_factory.GetMessageClass(method.input_type)().ByteSize() == 0
