"""Operations from outside: one encoding each, refused with a typed error if it is any other."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import canon, keys
from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, MalformedError, PolicyError, RejectedError, SignatureError
from crdtmerge.keys import SigningKey
from crdtmerge.limits import OPERATION_BYTES_MAX, PREV_MAX, TARGETS_MAX
from crdtmerge.op import (
    Add,
    Admit,
    Ban,
    Block,
    Body,
    Coefficients,
    Genesis,
    Operation,
    Policy,
    Retract,
    Role,
    SetRecipe,
    Unban,
)
from crdtmerge.opset import OpSet
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.testing import RECIPE, Story, content, histories, key

SPECIFICATION = "".join((Path(__file__).parents[2] / "docs" / "spec" / "operations.md").read_text().split())
ONE, TWO = sorted([content("one"), content("two")])
MANY = [Digest(number.to_bytes(32, "big")) for number in range(TARGETS_MAX + 1)]
WEIGHTED = Recipe(
    "ties",
    version=1,
    density="0.2",
    rules=[Rule.of("*.bias", "linear", version=1)],
    weights={ONE: "0.5"},
    output_dtype="BF16",
)
FEDERATION = content("a federation")
BODIES: list[Body] = [
    Genesis(tuple(sorted([key("ann").id, key("bob").id])), ONE, TWO, WEIGHTED, bytes(16), Policy(3, 1 << 40)),
    Admit(key("bob").id, Role.ADMIN),
    Ban(key("bob").id, (ONE, TWO)),
    Unban(key("bob").id, (ONE,)),
    Add(ONE),
    Retract((ONE, TWO)),
    Block(ONE),
    SetRecipe(WEIGHTED, (ONE,)),
    Coefficients(ONE, (ONE, TWO)),
]
KINDS = [body.kind for body in BODIES]


def said(body: Body, **changes: Any) -> Operation:
    federation = None if isinstance(body, Genesis) else FEDERATION
    return Operation.sign(key("ann"), body, **{"federation": federation, "created_ms": 7} | changes)


def altered(operation: Operation, place: int, value: canon.Value) -> bytes:
    """The encoding of ``operation`` with another value for one of its eight fields."""
    fields = list(canon.array(canon.decode(operation.encoded, bytes_max=OPERATION_BYTES_MAX)))
    fields[place] = value
    return canon.encode(fields)


@pytest.mark.parametrize("body", BODIES, ids=KINDS)
def test_what_is_signed_reads_back_as_it_was_and_verifies(body: Body) -> None:
    operation = said(body)
    again = Operation.decode(operation.encoded)
    assert (again, again.id, again.body) == (operation, operation.id, body)
    again.verify()


@pytest.mark.parametrize("body", BODIES, ids=KINDS)
def test_a_flipped_bit_is_refused_or_makes_another_operation_that_nobody_signed(body: Body) -> None:
    operation = said(body)
    for place in range(len(operation.encoded)):
        forged = bytearray(operation.encoded)
        forged[place] ^= 1 << place % 8
        try:
            decoded = Operation.decode(bytes(forged))
        except (MalformedError, LimitError):
            continue
        assert decoded.encoded == forged
        assert (decoded.id == operation.id) == (decoded.signature != operation.signature)
        with pytest.raises(SignatureError):
            decoded.verify()


@pytest.mark.parametrize("body", BODIES, ids=KINDS)
def test_a_truncated_or_extended_operation_is_refused(body: Body) -> None:
    data = said(body).encoded
    for stop in range(len(data)):
        with pytest.raises(MalformedError):
            Operation.decode(data[:stop])
    for tail in (b"\0", b"\xc0", data):
        with pytest.raises(MalformedError):
            Operation.decode(data + tail)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.sampled_from([-(1 << 63), (1 << 64) - 1])
    | st.text(max_size=8)
    | st.sampled_from([*KINDS, "member", "junk", "1.5", "F32", "explicit"])
    | st.binary(max_size=3)
    | st.sampled_from([bytes(16), ONE, TWO, bytes(64)]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    """The encoding of an operation in which something, however deep, was replaced, left out or doubled."""

    def mutilate(value: canon.Value) -> canon.Value:
        if isinstance(value, tuple) and value and draw(st.integers(0, 3)):
            place = draw(st.integers(0, len(value) - 1))
            how = draw(st.sampled_from(["inside", "inside", "inside", "without", "twice"]))
            if how == "inside":
                return (*value[:place], mutilate(value[place]), *value[place + 1 :])
            return (
                *value[:place],
                *(value[place : place + 1] * 2 if how == "twice" else ()),
                *value[place + 1 :],
            )
        return draw(VALUES)

    operation = said(draw(st.sampled_from(BODIES)))
    return canon.encode(mutilate(canon.decode(operation.encoded, bytes_max=OPERATION_BYTES_MAX)))


@given(mutilated())
def test_whatever_stands_in_a_field_is_read_back_or_refused_with_a_typed_error(data: bytes) -> None:
    with suppress(MalformedError, LimitError):
        assert Operation.decode(data).encoded == data


def test_a_recipe_with_weights_and_an_unknown_weighting_is_malformed() -> None:
    row = list(canon.array(canon.decode(WEIGHTED.encoded, bytes_max=OPERATION_BYTES_MAX)))
    row[row.index("explicit")] = "junk"
    with pytest.raises(MalformedError, match="junk"):
        Operation.decode(altered(said(SetRecipe(WEIGHTED)), 6, [row, []]))


@given(st.binary(max_size=64))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(RejectedError):
        Operation.decode(data)


def test_lists_of_targets_that_do_not_ascend_are_refused() -> None:
    for body in (
        Retract((TWO, ONE)),
        Retract((ONE, ONE)),
        Ban(key("bob").id, (TWO, ONE)),
        Unban(key("bob").id, (TWO, ONE)),
        SetRecipe(RECIPE, (TWO, ONE)),
        Coefficients(ONE, (TWO, ONE)),
    ):
        with pytest.raises(MalformedError, match="ascending"):
            said(body)
    with pytest.raises(MalformedError, match="ascending"):
        said(Add(ONE), prev=(TWO, ONE))


def test_more_targets_than_the_limit_are_refused_and_as_many_are_not() -> None:
    said(Retract(tuple(MANY[:TARGETS_MAX])))
    with pytest.raises(LimitError, match="retracted adds"):
        said(Retract(tuple(MANY)))
    said(Add(ONE), prev=MANY[:PREV_MAX])
    with pytest.raises(LimitError, match="predecessors"):
        said(Add(ONE), prev=MANY[: PREV_MAX + 1])


def test_statements_about_nothing_are_refused() -> None:
    for body in (Retract(()), Unban(key("bob").id, ()), Coefficients(ONE, ())):
        with pytest.raises(LimitError, match="between 1 and"):
            said(body)


def test_an_operation_longer_than_the_limit_is_refused_before_it_is_parsed() -> None:
    recipe = Recipe("ties", version=1, note="x" * OPERATION_BYTES_MAX)
    with pytest.raises(LimitError, match=str(OPERATION_BYTES_MAX)):
        said(SetRecipe(recipe))
    with pytest.raises(LimitError):
        Operation.decode(b"\xc1" * (OPERATION_BYTES_MAX + 1))


def test_clocks_may_lie_but_only_between_1970_and_the_end_of_63_bits() -> None:
    for created_ms in (0, (1 << 63) - 1):
        assert said(Add(ONE), created_ms=created_ms).created_ms == created_ms
    for created_ms in (-1, 1 << 63):
        with pytest.raises(MalformedError, match="integer"):
            said(Add(ONE), created_ms=created_ms)


def test_another_version_or_an_unknown_kind_is_refused() -> None:
    with pytest.raises(MalformedError, match="version 2"):
        Operation.decode(altered(said(Add(ONE)), 0, 2))
    with pytest.raises(MalformedError, match="integer"):
        Operation.decode(altered(said(Add(ONE)), 0, True))  # which equals 1 in Python
    with pytest.raises(MalformedError, match="coup"):
        Operation.decode(altered(said(Add(ONE)), 2, "coup"))


def test_a_genesis_that_its_author_does_not_found_is_refused() -> None:
    with pytest.raises(MalformedError, match="founders"):
        said(Genesis((key("bob").id,), None, None, RECIPE, bytes(16)))
    with pytest.raises(LimitError, match="founders"):
        said(Genesis((), None, None, RECIPE, bytes(16)))


def test_a_genesis_comes_first_and_belongs_to_no_federation() -> None:
    with pytest.raises(MalformedError, match="first"):
        said(BODIES[0], prev=(ONE,))
    with pytest.raises(MalformedError, match="no federation"):
        said(BODIES[0], federation=FEDERATION)
    with pytest.raises(MalformedError, match="no federation"):
        said(Add(ONE), federation=None)


def test_federations_of_the_same_founders_differ_by_their_nonce() -> None:
    assert Story().ops.federation != Story(nonce=b"another federatn").ops.federation


def test_a_quota_of_nothing_is_refused() -> None:
    with pytest.raises(MalformedError, match="integer from 1"):
        said(Genesis((key("ann").id,), None, None, RECIPE, bytes(16), Policy(visible_per_author_max=0)))


def test_the_signature_never_changes_an_id() -> None:
    operation = said(Add(ONE))
    other = Operation.decode(altered(operation, 7, bytes(64)))
    assert other.id == operation.id
    assert other.encoded != operation.encoded
    with pytest.raises(SignatureError):
        other.verify()


def test_a_signature_by_somebody_else_in_the_authors_name_is_refused() -> None:
    operation = said(Add(ONE))
    forged = Operation.decode(altered(operation, 3, key("bob").id))
    with pytest.raises(SignatureError):
        forged.verify()
    signature = key("bob").sign("operation", operation.unsigned)
    with pytest.raises(SignatureError):
        Operation.decode(altered(operation, 7, signature)).verify()


def test_an_author_that_is_no_public_key_is_refused() -> None:
    forged = Operation.decode(altered(said(Add(ONE)), 3, b"\xff" * 32))
    with pytest.raises(SignatureError):
        forged.verify()


def test_a_signature_for_another_purpose_is_worth_nothing() -> None:
    operation = said(Add(ONE))
    signature = key("ann").sign("node record", operation.unsigned)
    keys.verify(key("ann").id, "node record", operation.unsigned, signature)
    with pytest.raises(SignatureError):
        Operation.decode(altered(operation, 7, signature)).verify()


def test_an_operation_replayed_into_another_federation_is_refused() -> None:
    here, there = Story(), Story(nonce=b"another federatn")
    with pytest.raises(PolicyError, match=there.ops.federation.hex()):
        here.ops.add(there.add("root", "x"))


@given(histories())
def test_every_operation_of_every_history_survives_the_wire(history: list[Operation]) -> None:
    ops = OpSet(Operation.decode(history[0].encoded))
    for operation in history[1:]:
        again = Operation.decode(operation.encoded)
        assert again == operation
        ops.add(again)
    assert {operation.id for operation in ops} == {operation.id for operation in history}


def test_the_operations_in_the_specification_are_encoded_as_it_says() -> None:
    signer = SigningKey(bytes(32))
    body = Genesis((signer.id,), None, None, Recipe("linear", version=1), bytes(16))
    genesis = Operation.sign(signer, body, federation=None, created_ms=0)
    add = Operation.sign(
        signer, Add(Digest(bytes(32))), federation=genesis.id, created_ms=1, prev=[genesis.id]
    )
    for operation in (genesis, add):
        assert operation.encoded.hex() + operation.id.hex() in SPECIFICATION
