"""How persons who were erased are recognised and renamed, over kinds of identifiers and of rows."""

import json
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.people.pseudonyms import Erased, hash_of, is_distinct, pattern_of

KEY = b"k" * 32
NUMBERS = st.integers(-(2**62), 2**62)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)


def knows(entity, value, pseudonym):
    return Erased(KEY, {entity: {hash_of(KEY, entity, value): pseudonym}})


@given(st.lists(st.one_of(st.none(), NUMBERS), min_size=1), st.data())
def test_a_number_is_renamed_and_every_other_value_stays(ids, data):
    chosen = data.draw(st.sampled_from(ids))
    erased = Erased(KEY, {"customer_id": {}}) if chosen is None else knows("customer_id", chosen, "-17")
    rows = pa.table({"customer_id": pa.array(ids, pa.int64()), "phone": ["p"] * len(ids), "amount": range(len(ids))})
    renamed = erased.renamed(rows, ("customer_id", "terminal_id"), ("customer_id", "phone"))
    hit = [one is not None and one == chosen for one in ids]
    assert renamed["customer_id"].to_pylist() == [-17 if own else one for own, one in zip(hit, ids, strict=True)]
    assert renamed["phone"].to_pylist() == [None if own else "p" for own in hit]
    assert renamed["amount"] == rows["amount"]
    assert renamed.schema == rows.schema


@given(st.lists(NAMES, min_size=1, unique=True))
def test_features_see_the_same_groups_after_a_renaming(ids):
    erased = knows("customer_id", ids[0], "erased-1")
    renamed = erased.renamed(pa.table({"customer_id": [*ids, *ids]}), ("customer_id",), ())["customer_id"].to_pylist()
    assert renamed[: len(ids)] == renamed[len(ids) :]
    assert len(set(renamed)) == len(ids)
    assert ids[0] not in renamed or ids[0] == "erased-1"


def test_who_has_not_the_key_or_another_column_knows_nobody():
    erased = knows("customer_id", 7, "-1")
    assert erased.pseudonym("customer_id", 7) == "-1"
    assert erased.pseudonym("terminal_id", 7) is None
    assert Erased(b"other" * 7, erased.pseudonyms).pseudonym("customer_id", 7) is None


@pytest.mark.parametrize(
    ("original", "is_found"),
    [
        ({"CUSTOMER": "123", "AMOUNT": "5"}, True),
        ({"customer": 123.0, "AMOUNT": "5"}, True),
        ({"CUSTOMER": "00123"}, True),
        ({"CUSTOMER": "124", "AMOUNT": "123"}, False),
        ({"CUSTOMER": "1234"}, False),
        ({"CUSTOMER": None, "AMOUNT": "123"}, False),
    ],
)
def test_a_short_number_is_found_in_its_own_column_only(original, is_found):
    found = knows("customer_id", "123", "-5").original(json.dumps(original), {"customer_id": "CUSTOMER"})
    assert (found is not None) == is_found
    assert not is_found or json.loads(found) == {"erased": "-5"}


@pytest.mark.parametrize("text", ['{"text": "5;QX-77.1;9"}', "5,qx-77.1,9", '{"a": "note of QX-77.1."}', '["QX-77.1"]'])
def test_a_distinct_identifier_is_found_in_any_place_of_a_broken_line(text):
    assert knows("customer_id", "QX-77.1", "erased-1").original(text, {"customer_id": "CUSTOMER"})
    assert not knows("customer_id", "QX-77", "erased-1").original(text, {"customer_id": "CUSTOMER"})


@given(NAMES.filter(lambda name: name == name.strip()))
def test_the_pattern_finds_an_identifier_as_a_word_and_nothing_longer(identifier):
    pattern = re.compile(pattern_of(identifier))
    assert pattern.search(f'"{identifier}"')
    assert pattern.sub("x", f'"{identifier}"') == '"x"'
    assert not pattern.search(f"a{identifier}")
    assert not pattern.search(f"{identifier}9")


def test_a_score_loses_what_else_tells_of_the_person():
    erased = knows("customer_id", 9, "-3")
    transaction = {"customer_id": 9, "email": "a@b.c", "amount": 4.5}
    new, features = erased.score(transaction, {"email": "a@b.c", "mean_7d": 2.0}, ("customer_id", "email"))
    assert new == {"customer_id": -3, "email": None, "amount": 4.5}
    assert features == {"email": None, "mean_7d": 2.0}
    assert erased.score({"customer_id": 8}, {"x": 1}, ()) == ({"customer_id": 8}, {"x": 1})


@pytest.mark.parametrize(
    ("identifier", "is_so"), [("123", False), ("99999", False), ("123456", True), ("C-1", True), ("ab", False)]
)
def test_what_can_be_told_from_other_numbers(identifier, is_so):
    assert is_distinct(identifier) is is_so
