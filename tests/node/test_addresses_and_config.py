"""Addresses have one spelling, and a configuration means what it says or is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.node import config
from crdtmerge.node.address import Address, is_local
from crdtmerge.node.config import Config


@pytest.mark.parametrize(
    "text", ["127.0.0.1:80", "[::1]:0", "a.b:65535", "localhost:1", "node-1.example.org:7707"]
)
def test_an_address_reads_back_as_it_was_written(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a",
            "a:",
            ":1",
            "a:65536",
            "a:01",
            "a:+1",
            "a: 1",
            "a:１",
            "A:1",
            "-a:1",
            "a-:1",
            "a..b:1",
            "a_b:1",
        ),
        *("[::01]:1", "::1:80", "[1.2.3.4]:3", "[fe80::1%eth0]:1", "a/../b:1", "user@host:1", "", "a\n:1"),
        *("127.1:80", "2130706433:80", "0x7f000001:80", "0177.0.0.1:80", "a.0x7f:1"),
    ],
)
def test_another_spelling_is_no_address(text: str) -> None:
    with pytest.raises(MalformedError):
        Address.parse(text)


@given(st.text(max_size=40))
def test_parsing_an_address_gives_it_back_or_refuses_it(text: str) -> None:
    with contextlib.suppress(MalformedError):
        assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "224.0.0.1", "::1", "fc00::1",
           "fe80::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::", "100.64.0.1"],
)  # fmt: skip
def test_private_addresses_are_known_for_what_they_are(ip: str) -> None:
    assert is_local(ip)


@pytest.mark.parametrize("ip", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_not_private(ip: str) -> None:
    assert not is_local(ip)


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_text(
        'listen = "[::]:1"\nadvertise = ["node.example.org:0"]\nperiod_s = 2\n'
    )
    loaded = config.load(tmp_path, period_s=3.0, proxy=None)
    assert loaded == Config(
        listen=Address("::", 1), advertise=(Address("node.example.org", 0),), period_s=3.0
    )
    assert loaded.advertised(4711) == (Address("node.example.org", 4711),)


@pytest.mark.parametrize(
    "text",
    [
        'unknown = 1',
        'listen = 1',
        'listen = "nowhere"',
        'listen = "0.0.0.0:1"',
        'advertise = "a:1"',
        'period_s = true',
        'period_s = 0',
        'period_s = nan',
        'dial_local = 1',
        'concurrent_calls_max = 0',
        'proxy = "socks5://127.0.0.1:1"',
        'listen =',
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / config.FILE).write_text(text)
    with pytest.raises(ParameterError):
        config.load(tmp_path)


def test_private_addresses_are_dialled_by_private_nodes_only_unless_said_otherwise() -> None:
    public = Config(listen=Address("::", 1), advertise=(Address("node.example.org", 1),))
    assert Config().may_dial_local
    assert not public.may_dial_local
    assert Config(listen=public.listen, advertise=public.advertise, dial_local=True).may_dial_local
    assert not Config(dial_local=False).may_dial_local
