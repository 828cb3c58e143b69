"""Which column is the label, what its values mean, and when it became known."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fraud_assets.core.drafting.event_times import find_event_time
from fraud_assets.core.drafting.label_columns import FoundLabel, LabelTime, find_label, find_label_time
from fraud_assets.core.drafting.profiling import FileProfile, profile_rows

N = 200


def profiled(**columns: list[Any]) -> FileProfile:
    times = [f"2024-01-{number % 28 + 1:02d} 10:00:00" for number in range(N)]
    return profile_rows(pa.table({"event_time": times} | columns).to_batches())


def label_of(values: list[str], name: str = "is_fraud", share: int = 10) -> FoundLabel:
    """The label of a column in which every tenth row has the second value."""
    found = find_label(profiled(**{name: [values[int(n % share == 0)] for n in range(N)]}).columns)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("genuine", "fraud"),
    [
        ("0", "1"), ("False", "True"), ("no", "yes"), ("No", "Sí"), ("não", "sim"), ("non", "oui"), ("nein", "ja"),
        ("N", "Y"), ("F", "T"), ("G", "F"), ("N", "F"), ("L", "F"), ("legit", "fraud"), ("Not fraud", "Fraud"),
        ("genuine", "anything"), ("good", "bad"), ("0.0", "1.0"), ("kein Betrug", "Betrug"), ("no", "si"),
        ("non_fraud", "fraud"), ("licit", "illicit"),
    ],
)  # fmt: skip
def test_the_words_say_which_value_is_fraud(genuine: str, fraud: str) -> None:
    found = label_of([genuine, fraud])
    assert (found.fraud, found.genuine) == ((fraud,), (genuine,))
    # Also where it is the more frequent one.
    turned = label_of([fraud, genuine])
    assert (turned.fraud, turned.genuine) == ((fraud,), (genuine,))


def test_a_column_of_genuine_rows_is_turned_round() -> None:
    found = label_of(["1", "0"], "is_legit")
    assert (found.fraud, found.genuine) == (("0",), ("1",))


def test_what_has_not_been_decided_is_neither() -> None:
    values = ["fraud" if n % 10 == 0 else "pending" if n % 10 == 1 else "legit" for n in range(N)]
    found = find_label(profiled(status=values).columns)
    assert found is not None
    assert (found.fraud, found.genuine, found.undecided) == (("fraud",), ("legit",), ("pending",))
    assert found.blank_is_unknown


@pytest.mark.parametrize(("blanks", "unknown"), [(100, True), (12, True), (2, False), (0, False)])
def test_many_blanks_beside_both_values_are_unknown(blanks: int, unknown: bool) -> None:
    values = ["" if n < blanks else str(int(n % 5 == 0)) for n in range(N)]
    found = find_label(profiled(is_fraud=values).columns)
    assert found is not None
    assert found.blank_is_unknown is unknown


def test_blanks_beside_frauds_alone_are_genuine() -> None:
    found = find_label(profiled(fraud=["1" if n % 9 == 0 else "" for n in range(N)]).columns)
    assert found is not None
    assert found.blank_is_genuine
    assert not found.blank_is_unknown


@pytest.mark.parametrize("other", ["isFlaggedFraud", "TX_FRAUD_SCENARIO", "fraud_score", "fraud_type"])
def test_the_flag_of_a_rule_is_not_the_label(other: str) -> None:
    flags = [str(int(n % 20 == 0)) for n in range(N)]
    found = find_label(profiled(**{other: flags, "isFraud": [str(int(n % 10 == 0)) for n in range(N)]}).columns)
    assert found is not None
    assert found.column.name == "isFraud"


def test_of_two_that_look_like_a_label_the_other_one_is_named() -> None:
    values = [str(int(n % 10 == 0)) for n in range(N)]
    found = find_label(profiled(fraud_confirmed=values[::-1], is_fraud=values).columns)
    assert found is not None
    assert found.column.name == "fraud_confirmed"
    assert found.rivals == ("is_fraud",)


def known(column: list[str], name: str = "label_timestamp") -> LabelTime:
    profile = profiled(is_fraud=[str(int(n % 10 == 0)) for n in range(N)], **{name: column})
    label = find_label(profile.columns)
    assert label is not None
    return find_label_time(label, profile.columns, find_event_time(profile), profile)


def test_a_time_after_the_event_is_when_the_label_became_known() -> None:
    found = known([f"2024-02-{n % 28 + 1:02d} 10:00:00" for n in range(N)])
    assert found.column is not None
    # From each day of January to the same one of February.
    assert found.longest == 31


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2024-03-06 15:05:50"] * N, "is the same moment for all rows"),
        ([f"2024-01-{n % 28 + 1:02d} 10:00:00" for n in range(N)], "is the event's own time on most rows"),
        ([f"2023-01-{n % 28 + 1:02d} 10:00:00" for n in range(N)], "lies before the event on 100.0 % of the rows"),
        (
            ["" if n % 10 == 0 else f"2024-02-{n % 28 + 1:02d} 10:00:00" for n in range(N)],
            "is missing for 100.0 % of the frauds",
        ),
    ],
)
def test_a_time_that_cannot_be_when_labels_became_known_is_refused(values: list[str], said: str) -> None:
    found = known(values)
    assert found.column is None
    ((name, reason),) = found.refused
    assert name == "label_timestamp"
    assert said in reason
