from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Meta(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    META_UNSPECIFIED: _ClassVar[Meta]
    META_MANIFEST: _ClassVar[Meta]
    META_TENSOR: _ClassVar[Meta]

class Coding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODING_UNSPECIFIED: _ClassVar[Coding]
    CODING_RAW: _ClassVar[Coding]
    CODING_PACKED: _ClassVar[Coding]
META_UNSPECIFIED: Meta
META_MANIFEST: Meta
META_TENSOR: Meta
CODING_UNSPECIFIED: Coding
CODING_RAW: Coding
CODING_PACKED: Coding

class HaveRequest(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, digests: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HaveReply(_message.Message):
    __slots__ = ("bitmap",)
    BITMAP_FIELD_NUMBER: _ClassVar[int]
    bitmap: bytes
    def __init__(self, bitmap: _Optional[bytes] = ...) -> None: ...

class GetBlockRequest(_message.Message):
    __slots__ = ("digest", "coding", "against", "width")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    coding: Coding
    against: bytes
    width: int
    def __init__(self, digest: _Optional[bytes] = ..., coding: _Optional[_Union[Coding, str]] = ..., against: _Optional[bytes] = ..., width: _Optional[int] = ...) -> None: ...

class GetBlockReply(_message.Message):
    __slots__ = ("data", "coding")
    DATA_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    coding: Coding
    def __init__(self, data: _Optional[bytes] = ..., coding: _Optional[_Union[Coding, str]] = ...) -> None: ...

class GetMetaRequest(_message.Message):
    __slots__ = ("kind", "digest", "offset")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    kind: Meta
    digest: bytes
    offset: int
    def __init__(self, kind: _Optional[_Union[Meta, str]] = ..., digest: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class GetMetaReply(_message.Message):
    __slots__ = ("total", "chunk")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    total: int
    chunk: bytes
    def __init__(self, total: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...
