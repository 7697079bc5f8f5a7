"""What a person may choose about one node: where it listens, whom it may dial, how much it may take.

A configuration is data: `load` reads <home>/config.toml, strictly, and lets flags win over it.

    listen = "0.0.0.0:7707"                 # where the socket is
    advertise = ["node1.example.org:7707"]  # what other nodes are told; default: listen
    dial_local = true                       # may addresses in private ranges be dialled? default: see below
    proxy = "http://127.0.0.1:3128"         # HTTP CONNECT proxy for every outgoing connection
    period_s = 10.0                         # between two rounds of anti-entropy
    concurrent_calls_max = 256              # served at once; more are refused, not queued
    compress = true                         # let blocks travel packed, where zstandard is installed
    calls_per_s = 1000.0                    # of one node; more are told to wait, and nothing else

Proxies from the environment are ignored: they are meant for the web, and would silently cut peers apart.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.limits import ADDRESSES_MAX
from crdtmerge.node.address import Address, is_ip, is_local

FILE: Final = "config.toml"
CALLS_PER_S: Final = 1000.0
"""Of one node: what a fast transfer of small blocks needs, and what one Python process can answer."""
LISTEN: Final = Address("127.0.0.1", 7707)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The choices for one node, checked."""

    listen: Address = LISTEN
    """Port 0 lets the system choose one."""
    advertise: tuple[Address, ...] = ()
    dial_local: bool | None = None
    proxy: str | None = None
    period_s: float = 10.0
    concurrent_calls_max: int = 256
    calls_per_s: float = CALLS_PER_S
    compress: bool = True

    def __post_init__(self) -> None:
        if len(self.advertise) > ADDRESSES_MAX:
            raise ParameterError(f"advertise: at most {ADDRESSES_MAX} addresses, got {len(self.advertise)}")
        if not 0.05 <= self.period_s <= 3600:
            raise ParameterError(f"period_s: wanted 0.05 to 3600 seconds, got {self.period_s}")
        if not 1 <= self.concurrent_calls_max <= 65536:
            raise ParameterError(f"concurrent_calls_max: wanted 1 to 65536, got {self.concurrent_calls_max}")
        if not 1 <= self.calls_per_s <= 1_000_000:
            raise ParameterError(f"calls_per_s: wanted 1 to 1000000, got {self.calls_per_s}")
        if self.proxy is not None and not self.proxy.startswith("http://"):
            raise ParameterError(f"proxy: wanted http://host:port, got {self.proxy!r}")
        if not self.advertise and self.listen.is_wildcard:
            raise ParameterError(
                f"listen = {self.listen} tells others no address: give --advertise HOST:PORT too"
            )

    def advertised(self, port: int) -> tuple[Address, ...]:
        """Return what other nodes are told, given the port that the system bound."""
        return tuple(
            Address(address.host, address.port or port) for address in self.advertise or (self.listen,)
        )

    @property
    def may_dial_local(self) -> bool:
        """Whether addresses in private ranges may be dialled.

        Unless the configuration says: a node that is itself advertised under a private address has private
        peers; a node on the public network must not be led to its own neighbours by a stranger's record.
        """
        if self.dial_local is not None:
            return self.dial_local
        hosts = [address.host for address in self.advertise or (self.listen,)]
        return any(host == "localhost" or (is_ip(host) and is_local(host)) for host in hosts)


def load(home: Path, **flags: Any) -> Config:
    """Return the configuration of ``home``, with ``flags`` (those that are not None) in front.

    Raises:
        ParameterError: if a key is unknown, or a value has the wrong type or is out of range.
    """
    path = home / FILE
    try:
        written = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: {error}") from error
    return parse(written | {name: value for name, value in flags.items() if value is not None})


def parse(values: Mapping[str, Any]) -> Config:
    """Return the configuration that ``values``, in TOML's types, describe.

    Raises:
        ParameterError: as `load`.
    """
    known = {field.name for field in fields(Config)}
    if unknown := sorted(values.keys() - known):
        raise ParameterError(f"unknown setting {', '.join(unknown)}; known are: {', '.join(sorted(known))}")
    return Config(**{name: _READ[name](name, value) for name, value in values.items()})


def _address(name: str, value: object) -> Address:
    try:
        return Address.parse(_text(name, value))
    except MalformedError as error:
        raise ParameterError(f"{name}: {error}") from error


def _addresses(name: str, value: object) -> tuple[Address, ...]:
    if not isinstance(value, (list, tuple)):
        raise ParameterError(f"{name}: wanted a list of addresses, got {value!r}")
    return tuple(_address(name, item) for item in value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ParameterError(f"{name}: wanted text, got {value!r}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ParameterError(f"{name}: wanted true or false, got {value!r}")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ParameterError(f"{name}: wanted a number, got {value!r}")
    return float(value)


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(f"{name}: wanted an integer, got {value!r}")
    return value


_READ: Final[Mapping[str, Any]] = {
    "listen": _address,
    "advertise": _addresses,
    "dial_local": _flag,
    "proxy": _text,
    "period_s": _number,
    "concurrent_calls_max": _integer,
    "calls_per_s": _number,
    "compress": _flag,
}
