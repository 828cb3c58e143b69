"""Whatever a table holds that can be read: its draft is a contract, and the contract takes the table."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.drafting.draft import draft_contract
from fraud_assets.core.drafting.profiling import profile_rows
from fraud_assets.core.intake.accept import Part
from fraud_assets.core.intake.preview import preview

Values = Callable[[random.Random, int], str]

TIMES = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%d.%m.%Y %H:%M",
    "%m/%d/%Y %I:%M %p",
    "%d-%b-%Y %H:%M:%S",
    "%Y%m%d",
)
LABELS = (("0", "1"), ("False", "True"), ("no", "sí"), ("legit", "fraud"), ("0.0", "1.0"), ("N", "Y"), ("a", "b"))
COLUMNS: dict[str, Values] = {
    "whole numbers": lambda draw, _: str(draw.randrange(-5, 10_000)),
    "numbers": lambda draw, _: f"{draw.gauss(0, 1e4):.3f}",
    "small numbers": lambda draw, _: repr(draw.random() * 1e-7),
    "codes": lambda draw, _: f"{draw.randrange(90):05d}",
    "pandas": lambda draw, _: f"{draw.randrange(70)}.0",
    "booleans": lambda draw, _: draw.choice(["True", "False"]),
    "words": lambda draw, _: draw.choice(["web", "shop", "at home: no", "#1", "  padded "]),
    "text": lambda draw, _: "".join(draw.choices("abc äß,;'\"\t-0", k=12)),
    "dates": lambda draw, _: f"19{draw.randrange(50, 99)}-0{draw.randrange(1, 9)}-1{draw.randrange(9)}",
    "expiry": lambda draw, _: f"{draw.randrange(1, 13):02d}/{draw.randrange(24, 31)}",
    "addresses": lambda draw, _: f"10.0.{draw.randrange(9)}.{draw.randrange(9)}",
    "mails": lambda draw, _: f"a{draw.randrange(60)}@example.org",
    "money": lambda draw, _: f"${draw.randrange(1, 9)},{draw.randrange(100, 999)}.50",
    "lost digits": lambda draw, _: "4.00012E+15",
    "clocks": lambda draw, _: f"{draw.randrange(24):02d}:{draw.randrange(60):02d}",
    "nothing": lambda _, __: "",
    "one value": lambda _, __: "EUR",
    "numbered": lambda _, number: str(number),
}
NAMES = st.one_of(
    st.sampled_from(
        ["Amount", "card no", "Händler", "金额", "zip", "exp_date", "type", "month", "score", "e", "9", " "]
    ),
    st.text(min_size=1, max_size=12).filter(lambda name: name.isprintable()),
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[str]]:
    """Columns of text with an event time and a label among them, some values missing."""
    values = random.Random(draw(st.integers(0, 10_000)))
    n = draw(st.sampled_from([1, 7, 150, 400]))
    form, words = draw(st.sampled_from(TIMES)), draw(st.sampled_from(LABELS))
    start = dt.datetime(2024, 1, 1)
    found = {
        "transaction_time": [
            f"{start + dt.timedelta(hours=9 * number, minutes=number % 60):{form}}" for number in range(n)
        ],
        "is_fraud": [words[int(values.random() < 0.2)] for _ in range(n)],
    }
    gap = draw(st.sampled_from(["", "NA", "None", "-"]))
    for name, kind in draw(st.dictionaries(NAMES, st.sampled_from(sorted(COLUMNS)), max_size=8)).items():
        if name in found:
            continue
        share = draw(st.sampled_from([0.0, 0.0, 0.3]))
        column = [COLUMNS[kind](values, number) for number in range(n)]
        found[name] = [gap if values.random() < share else value for value in column]
    return found


@given(tables())
def test_a_draft_is_a_contract_that_takes_the_table_it_was_drafted_from(columns: dict[str, list[str]]) -> None:
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    draft = draft_contract(profile_rows(table.to_batches()), "table.csv")
    contract = parse_contract(draft.text)
    found = preview([(Part("table.csv", lambda: iter(table.to_batches())), None)], contract, lambda _: True)
    accepted = sum(month.n_accepted for month in found.months)
    assert accepted >= 0.95 * table.num_rows, found.reasons
    # What a person is asked is in the text, too, in the same order.
    asked = [line.partition("# to confirm: ")[2] for line in draft.text.splitlines() if "# to confirm: " in line]
    assert len(asked) == len(draft.to_confirm)
    for comment, question in zip(asked, draft.to_confirm, strict=True):
        assert comment.startswith(question.partition(": ")[2]) or comment == question
    said = {column.column for column in contract.columns.values()} | {one.name for one in draft.roles.left_out}
    said |= {contract.event_timestamp.columns[0], str(contract.label.column)}
    said |= {contract.transaction_id.column} if contract.transaction_id else set()
    assert set(columns) <= said | set(contract.event_timestamp.columns)


def test_an_identifier_that_lost_digits_is_left_out_also_where_a_word_makes_its_column_text() -> None:
    cards = ["4.00012E+15"] * 6 + ["unbekannt"]
    times = [f"2024-01-0{day} 09:00:00" for day in range(1, 8)]
    table = pa.table({"transaction_time": times, "is_fraud": ["0"] * 7, "card no": cards})
    roles = draft_contract(profile_rows(table.to_batches()), "table.csv").roles
    assert "card no" not in {part.column.name for part in roles.entities.values()}
    assert [one.reason.startswith("has numbers that have lost digits") for one in roles.left_out] == [True]
