"""What both ends of a connection hold each other to."""

from __future__ import annotations

from typing import Final

from crdtmerge.limits import MESSAGE_BYTES_MAX, METADATA_HEADER_BYTES_MAX

CALL_S: Final = 10.0
"""The deadline of every call."""

KEEPALIVE_S: Final = 60
"""How often a silent connection is asked whether it still lives."""

RETRY_AFTER: Final = "retry-after-ms"
"""In the trailing metadata of RESOURCE_EXHAUSTED: when the same call is welcome again, in milliseconds."""

_IDENTITY_ONLY: Final = 1  # of the compression algorithms: a 2 MiB message cannot unpack to more

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_HEADER_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_HEADER_BYTES_MAX),
    ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
