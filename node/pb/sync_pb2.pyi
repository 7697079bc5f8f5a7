from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Space(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPACE_UNSPECIFIED: _ClassVar[Space]
    SPACE_OPERATIONS: _ClassVar[Space]
    SPACE_RECORDS: _ClassVar[Space]
    SPACE_ATTESTATIONS: _ClassVar[Space]
SPACE_UNSPECIFIED: Space
SPACE_OPERATIONS: Space
SPACE_RECORDS: Space
SPACE_ATTESTATIONS: Space

class HelloRequest(_message.Message):
    __slots__ = ("nonce", "federation", "state_root", "book_root", "record", "invite", "attested_root")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_ROOT_FIELD_NUMBER: _ClassVar[int]
    BOOK_ROOT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    INVITE_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_ROOT_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    federation: bytes
    state_root: bytes
    book_root: bytes
    record: bytes
    invite: bytes
    attested_root: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., federation: _Optional[bytes] = ..., state_root: _Optional[bytes] = ..., book_root: _Optional[bytes] = ..., record: _Optional[bytes] = ..., invite: _Optional[bytes] = ..., attested_root: _Optional[bytes] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("nonce", "state_root", "book_root", "operations", "records", "record", "genesis", "attestations")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    STATE_ROOT_FIELD_NUMBER: _ClassVar[int]
    BOOK_ROOT_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    GENESIS_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    state_root: bytes
    book_root: bytes
    operations: bytes
    records: bytes
    record: bytes
    genesis: bytes
    attestations: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., state_root: _Optional[bytes] = ..., book_root: _Optional[bytes] = ..., operations: _Optional[bytes] = ..., records: _Optional[bytes] = ..., record: _Optional[bytes] = ..., genesis: _Optional[bytes] = ..., attestations: _Optional[bytes] = ...) -> None: ...

class ReconcileRequest(_message.Message):
    __slots__ = ("space", "session", "payload")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    space: Space
    session: bytes
    payload: bytes
    def __init__(self, space: _Optional[_Union[Space, str]] = ..., session: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ReconcileReply(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    def __init__(self, payload: _Optional[bytes] = ...) -> None: ...

class PushOpsRequest(_message.Message):
    __slots__ = ("operations", "news")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    NEWS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedScalarFieldContainer[bytes]
    news: bool
    def __init__(self, operations: _Optional[_Iterable[bytes]] = ..., news: bool = ...) -> None: ...

class PushOpsReply(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    def __init__(self, accepted: _Optional[int] = ...) -> None: ...

class GetOpsRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetOpsReply(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, operations: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RecordsRequest(_message.Message):
    __slots__ = ("records", "ids", "space")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    ids: _containers.RepeatedScalarFieldContainer[bytes]
    space: Space
    def __init__(self, records: _Optional[_Iterable[bytes]] = ..., ids: _Optional[_Iterable[bytes]] = ..., space: _Optional[_Union[Space, str]] = ...) -> None: ...

class RecordsReply(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, records: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProbeReply(_message.Message):
    __slots__ = ("reachable",)
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    reachable: bool
    def __init__(self, reachable: bool = ...) -> None: ...
