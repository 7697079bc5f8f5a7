"""A ticket arrives whole or not at all."""

from __future__ import annotations

import base64

import node_harness as harness
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import canon
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import LimitError, MalformedError, RejectedError, SignatureError
from crdtmerge.limits import TICKET_BYTES_MAX
from crdtmerge.node import ticket
from crdtmerge.node.address import Address
from crdtmerge.node.ticket import PREFIX, Ticket

TICKET = Ticket(
    federation=harness.FEDERATION,
    inviter=harness.signing_key(1).id,
    addresses=(Address("node.example.org", 7707), Address("::1", 7707)),
    leaf=harness.credentials(1).leaf,
    ca_secret=harness.CA_SECRET,
    invite_seed=b"i" * 32,
    expires_ms=1_800_000_000_000,
)
TEXT = str(TICKET)


def fields() -> list[canon.Value]:
    return list(canon.array(canon.decode(_body(TEXT)[8:], bytes_max=TICKET_BYTES_MAX)))


def forge(*values: canon.Value) -> str:
    """A ticket with a correct checksum over whatever it says."""
    payload = canon.encode(values)
    body = digest(Domain.INVITE, payload)[:8] + payload
    return PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")


def _body(text: str) -> bytes:
    encoded = text.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def test_a_ticket_reads_back_as_it_was_written() -> None:
    assert ticket.parse(f" {TEXT}\n") == TICKET
    assert TEXT.startswith(PREFIX)
    assert len(TEXT) < 2000


def test_a_ticket_does_not_show_its_secrets_when_printed_for_debugging() -> None:
    assert repr(TICKET.invite_seed) not in repr(TICKET)
    assert repr(TICKET.ca_secret) not in repr(TICKET)


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_a_ticket_with_one_character_changed_is_refused(position: int, character: str) -> None:
    if TEXT[position] != character:
        with pytest.raises(RejectedError):
            ticket.parse(TEXT[:position] + character + TEXT[position + 1 :])


@given(st.integers(0, len(TEXT) - 1))
def test_a_ticket_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(MalformedError):
        ticket.parse(TEXT[:length])


def test_a_ticket_of_any_length_costs_nothing_to_refuse() -> None:
    with pytest.raises(LimitError):
        ticket.parse(PREFIX + "A" * TICKET_BYTES_MAX)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, 2),
        (1, b"f" * 31),
        (2, b"n" * 33),
        (3, []),
        (3, ["a:1"] * 9),
        (3, ["127.1:1"]),
        (3, "a:1"),
        (5, b"c" * 31),
        (5, bytes(32)),
        (5, b"\xff" * 32),
        (6, b""),
        (7, -1),
        (7, "tomorrow"),
    ],
)
def test_a_ticket_with_a_field_out_of_range_is_refused(field: int, value: canon.Value) -> None:
    changed = fields()
    changed[field] = value
    with pytest.raises(RejectedError):
        ticket.parse(forge(*changed))


def test_a_ticket_with_more_fields_is_refused() -> None:
    with pytest.raises(MalformedError):
        ticket.parse(forge(*fields(), 1))


def test_a_ticket_that_pins_another_nodes_certificate_is_refused() -> None:
    changed = fields()
    changed[4] = harness.credentials(2).leaf
    with pytest.raises(RejectedError):
        ticket.parse(forge(*changed))


def test_a_ticket_to_another_federation_than_its_certificate_is_refused() -> None:
    changed = fields()
    changed[1] = b"g" * 32
    with pytest.raises(RejectedError):
        ticket.parse(forge(*changed))


def test_a_ticket_with_a_forged_certificate_is_refused() -> None:
    changed = fields()
    changed[4] = TICKET.leaf.replace(TICKET.inviter, harness.signing_key(2).id)
    with pytest.raises(SignatureError):
        ticket.parse(forge(*changed))
