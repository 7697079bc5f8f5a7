"""Where a node listens: a host and a port, in one spelling.

Records of other nodes carry addresses that they chose themselves, and dialling one makes this machine open
a connection: so an address is parsed strictly, and what points into this machine or a private network is
dialled only where the configuration says so.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from crdtmerge.errors import MalformedError

_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_HOST_CHARACTERS_MAX: Final = 253


@dataclass(frozen=True, slots=True)
class Address:
    """A host (a name, an IPv4 or an IPv6 address in its shortest form) and a port."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Address:
        """Read ``host:port`` or ``[IPv6]:port``.

        Raises:
            MalformedError: if it is neither, or not in its one spelling.
        """
        host, colon, port = text.rpartition(":")
        if colon and _PORT.fullmatch(port) and int(port) <= 0xFFFF:
            address = Address(host[1:-1] if host.startswith("[") else host, int(port))
            if str(address) == text and _is_host(address.host):
                return address
        raise MalformedError(f"{text!r} is no address: wanted host:port, in lower case")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of this machine: something to listen on, not to dial."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104 - a comparison, nothing is bound


@lru_cache(maxsize=4096)
def is_ip(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4096)
def is_local(ip: str) -> bool:
    """Whether the IP address ``ip`` points into this machine, this link or a private network."""
    address = ipaddress.ip_address(ip)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_global or address.is_multicast


def _is_host(host: str) -> bool:
    if is_ip(host):
        return str(ipaddress.ip_address(host)) == host and "%" not in host
    # The last label begins with a letter: some resolvers read 0x7f.1 and 2130706433 as IPv4 addresses.
    last = host.rpartition(".")[2]
    return len(host) <= _HOST_CHARACTERS_MAX and bool(_HOST.fullmatch(host)) and last[0].isalpha()
