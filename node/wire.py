"""Messages on the wire: the values of `crdtmerge.sync.messages`, to and from protobuf.

A message class and its protobuf twin have the same fields under the same names, so one rule translates them
all: tuples are repeated fields, None is an absent optional field, an enumeration's member is the constant
that is named after both. A test holds the two descriptions against each other.

A large first field (a block) goes past protobuf, which would copy it twice each way: the bytes on the wire
are the same.

Always true here: what `parse` returns is well formed, because constructing a message checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Any, Final, get_type_hints

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from crdtmerge.errors import MalformedError
from crdtmerge.node.pb import blobs_pb2, sync_pb2
from crdtmerge.sync import messages
from crdtmerge.sync.messages import Reply, Request

SYNC: Final[ServiceDescriptor] = sync_pb2.DESCRIPTOR.services_by_name["Sync"]
BLOBS: Final[ServiceDescriptor] = blobs_pb2.DESCRIPTOR.services_by_name["Blobs"]

PROBE: Final = f"/{SYNC.full_name}/Probe"
"""The one call that no machine makes: the nodes around the machines do."""

BULK_BYTES: Final = 1 << 14
"""A first field of this size or more is written and read without protobuf."""

_FIRST: Final = b"\x0a"
"""Tag of field 1, of type bytes; its length follows, seven bits a byte, lowest first."""


@dataclass(frozen=True, slots=True)
class Form:
    """A message class, its protobuf twin, and what each field is."""

    plain: type
    twin: type[Message]
    enums: tuple[tuple[str, type[Enum]], ...]
    bulk: str | None
    """The first field, if it is bytes that may be absent."""

    def dump(self, message: object) -> bytes:
        """Return the wire form of a message of class ``plain``."""
        twin = self.twin()
        enums = dict(self.enums)
        bulk: tuple[bytes, ...] = ()
        for field in fields(self.plain):
            value = getattr(message, field.name)
            if field.name == self.bulk and value is not None and len(value) >= BULK_BYTES:
                bulk = _FIRST, _length(len(value)), value
            elif field.name in enums:
                setattr(twin, field.name, _constant(value))
            elif isinstance(value, tuple):
                getattr(twin, field.name).extend(value)
            elif value is not None:
                setattr(twin, field.name, value)
        return b"".join((*bulk, twin.SerializeToString()))

    def parse(self, data: bytes) -> object:
        """Return the message of class ``plain`` that ``data`` describes.

        Raises:
            MalformedError: if it describes none.
            LimitError: if a part of it is too large.
        """
        try:
            bulk, twin = self._read(data)
        except DecodeError as error:
            raise MalformedError(f"not a {self.twin.DESCRIPTOR.name}") from error
        enums = dict(self.enums)
        values: dict[str, object] = {}
        for field in self.twin.DESCRIPTOR.fields:
            value = getattr(twin, field.name)
            if field.name in enums:
                values[field.name] = _member(enums[field.name], value)
            elif field.is_repeated:
                values[field.name] = tuple(value)
            elif field.name == self.bulk and bulk is not None:
                values[field.name] = bulk
            elif field.has_presence and not twin.HasField(field.name):
                values[field.name] = None
            else:
                values[field.name] = value
        return self.plain(**values)

    def _read(self, data: bytes) -> tuple[bytes | None, Any]:
        """Return a large first field, if there is one, and all that protobuf is to read."""
        if self.bulk is not None and len(data) >= BULK_BYTES and data.startswith(_FIRST):
            begin = 1 + next((i for i in range(1, 5) if data[i] < 0x80), 4)
            end = begin + sum((byte & 0x7F) << 7 * i for i, byte in enumerate(data[1:begin]))
            if data[begin - 1] < 0x80 and end <= len(data):
                twin = self.twin.FromString(data[end:])
                if not twin.HasField(self.bulk):  # there twice, the last one counts
                    return data[begin:end], twin
        return None, self.twin.FromString(data)


@dataclass(frozen=True, slots=True)
class Rpc:
    """One unary call: its path and the forms of its two messages."""

    path: str
    request: Form
    reply: Form


_ENUMS: Final[dict[type[Enum], Any]] = {
    messages.Space: sync_pb2.Space,
    messages.Meta: blobs_pb2.Meta,
    messages.Coding: blobs_pb2.Coding,
}


def _length(size: int) -> bytes:
    """Return a number as protobuf writes the length of a field."""
    *low, last = (size >> shift & 0x7F for shift in range(0, max(1, size.bit_length()), 7))
    return bytes([*(part | 0x80 for part in low), last])


@cache
def _constant(member: Enum) -> int:
    return int(_ENUMS[type(member)].Value(f"{type(member).__name__}_{member.name}".upper()))


def _member(enum: type[Enum], constant: int) -> Enum:
    for member in enum:
        if _constant(member) == constant:
            return member
    raise MalformedError(f"{constant} is no {enum.__name__}")


def _form(plain: type, descriptor: Descriptor) -> Form:
    enums = tuple(
        (name, hint)
        for name, hint in get_type_hints(plain).items()
        if isinstance(hint, type) and issubclass(hint, Enum)
    )
    first = descriptor.fields_by_number[1]
    bulk = first.name if first.type == first.TYPE_BYTES and first.has_presence else None
    return Form(plain, message_factory.GetMessageClass(descriptor), enums, bulk)


def _rpcs() -> Iterator[tuple[type, Rpc]]:
    for service in (SYNC, BLOBS):
        for method in service.methods:
            request = getattr(messages, method.name, None)
            if request is not None:
                reply = getattr(messages, f"{method.name}Reply")
                path = f"/{service.full_name}/{method.name}"
                yield request, Rpc(path, _form(request, method.input_type), _form(reply, method.output_type))


RPCS: Final = MappingProxyType(dict(_rpcs()))
"""Every call that a machine makes, by the class of its request."""

HELLO: Final = RPCS[messages.Hello].path
"""The one call that is open to somebody who is no member yet."""

__all__ = ["BLOBS", "HELLO", "PROBE", "RPCS", "SYNC", "Form", "Reply", "Request", "Rpc"]
