"""Messages on the wire: the values of `crdtmerge.sync.messages`, to and from protobuf.

A message class and its protobuf twin have the same fields under the same names, so one rule translates them
all: tuples are repeated fields, None is an absent optional field, an enumeration's member is the constant
that is named after both. A test holds the two descriptions against each other.

Always true here: what `parse` returns is well formed, because constructing a message checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
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


@dataclass(frozen=True, slots=True)
class Form:
    """A message class, its protobuf twin, and what each field is."""

    plain: type
    twin: type[Message]
    enums: tuple[tuple[str, type[Enum]], ...]

    def dump(self, message: object) -> bytes:
        """Return the wire form of a message of class ``plain``."""
        twin = self.twin()
        enums = dict(self.enums)
        for field in fields(self.plain):
            value = getattr(message, field.name)
            if field.name in enums:
                setattr(twin, field.name, _constant(value))
            elif isinstance(value, tuple):
                getattr(twin, field.name).extend(value)
            elif value is not None:
                setattr(twin, field.name, value)
        return twin.SerializeToString()

    def parse(self, data: bytes) -> object:
        """Return the message of class ``plain`` that ``data`` describes.

        Raises:
            MalformedError: if it describes none.
            LimitError: if a part of it is too large.
        """
        try:
            twin = self.twin.FromString(data)
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
            elif field.has_presence and not twin.HasField(field.name):
                values[field.name] = None
            else:
                values[field.name] = value
        return self.plain(**values)


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
    return Form(plain, message_factory.GetMessageClass(descriptor), enums)


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
