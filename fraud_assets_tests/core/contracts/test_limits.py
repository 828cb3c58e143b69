"""Contracts that later steps could not carry out, and those at the limit, which they can."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import ContractError, parse_contract
from fraud_assets.core.contracts.feature_names import in_full
from fraud_assets.core.contracts.limits import DERIVED_NAMES, ENTITY_SUFFIXES, OF_AMOUNT, row_bytes
from fraud_assets.core.drift.history_columns import history_columns
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.lineage.tables.declared import TABLES

HEAD = """
name: cards
first_month: 2024-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
label: {column: fraud, delay_days: 3}
maturity_days: 7
"""


def contract(entities=("customer_id",), attributes=(), amount=True, kind="number", head=HEAD):
    lines = [head, *(["amount: {column: amount, type: number}"] if amount else [])]
    for section, names in (("entities", entities), ("attributes", attributes)):
        if names:
            own = kind if section == "attributes" else "string"
            lines += [f"{section}:", *(f"  {name}: {{column: c{n}, type: {own}}}" for n, name in enumerate(names))]
    return parse_contract("\n".join(lines))


def test_the_names_of_features_are_those_that_are_looked_out_for():
    spends, plain = contract(("card", "shop")), contract(("card", "shop"), amount=False)
    made = {name for name in feature_names(spends) if name.startswith(("card_", "shop_"))}
    shown = {name for name in history_columns(spends) if name not in DERIVED_NAMES}
    of_card = {f"card_{in_full(suffix, spends.window_days)}" for suffix in ENTITY_SUFFIXES}
    assert {name for name in made if name.startswith("card_")} | {"card_new"} == of_card
    assert made | shown <= {one.replace("card_", found) for one in of_card for found in ("card_", "shop_")}
    assert set(history_columns(spends)) - shown == set(DERIVED_NAMES)
    assert (
        len([name for name in feature_names(plain) if name.startswith("card_")]) == len(ENTITY_SUFFIXES) - 1 - OF_AMOUNT
    )


@pytest.mark.parametrize(
    ("entities", "attributes", "said"),
    [
        (("käufer",), (), "'käufer' cannot be the platform's name of a column"),
        (('"my card"',), (), "'my card' cannot be the platform's name"),
        (("9lives",), (), "'9lives' cannot be the platform's name"),
        (("a" * 60,), (), "'a{60}' cannot be the platform's name"),
        (("a" * 38,), (), "has a name of 38 characters, and its features would have more than the 63"),
        (("ctid",), (), "'ctid': Postgres gives every table one"),
        ((), ("XMIN",), "'XMIN': Postgres gives every table one"),
        (("Month",), (), "'Month': that is one of the platform's own names"),
        ((), ("Amount",), "'Amount': that is one of the platform's own names"),
        (("Card", "card"), (), "entity 'Card' and entity 'card' would be one column"),
        (("card",), ("CARD",), "entity 'card' and attribute 'CARD' would be one column"),
        (("card", "card_id"), (), "'card_count_1d' of entity 'card' and .* of entity 'card_id' would be one"),
        (("card",), ("card_count_7d",), "'card_count_7d' of entity 'card' and attribute 'card_count_7d' would be one"),
        (("Seen",), (), "no entity may be called 'Seen': features are made with a column of that name"),
        (("card",), ("amount_over_recent_mean",), "the drift report's amount_over_recent_mean"),
    ],
)  # fmt: skip
def test_a_name_that_a_later_step_cannot_use_is_refused_when_the_contract_is_read(entities, attributes, said):
    with pytest.raises(ContractError, match=said):
        contract(entities, attributes)


@pytest.mark.parametrize("name", ["postgres", "template0", "template1"])
def test_a_contract_is_not_called_like_a_database_of_the_server(name):
    with pytest.raises(ContractError, match="is a database that every Postgres has"):
        contract(head=HEAD.replace("cards", name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("amount: {column: amount}", "amount is string, and is summed and compared; say type: number"),
        ("amount: {column: amount, type: date}", "amount is date"),
    ],
)
def test_an_amount_is_a_number(text, said):
    with pytest.raises(ContractError, match=said):
        parse_contract(HEAD + text)


def test_an_id_is_text_or_a_whole_number():
    with pytest.raises(ContractError, match="transaction_id is number; say type: string, which keeps any"):
        contract(head=HEAD.replace("column: id, type: integer", "column: id, type: number"))


def test_more_columns_than_a_table_has_are_refused_with_how_many_to_leave_out():
    names = [f"vendor_{number:04d}" for number in range(1_650)]
    # id, time, one card, amount and the time at which it came in.
    with pytest.raises(ContractError, match="at most 1,600 columns, and raw_transactions would need 1,655: leave 55"):
        contract(attributes=names, kind="boolean")


def test_a_row_that_is_larger_than_a_page_is_refused():
    with pytest.raises(ContractError, match=r"rows of at most 8,160 bytes, and one of raw_transactions, .* can need"):
        contract(attributes=[f"v{number}" for number in range(1_100)])
    contract(attributes=[f"v{number}" for number in range(980)])


def test_the_size_of_a_row_counts_the_gaps_before_numbers():
    # The header of 23 bytes and a bitmap of one fill 24; a text of 18 ends at 42, so the number begins at 48.
    assert row_bytes(["string", "number"]) == 56
    assert row_bytes(["boolean", "boolean", "date"]) == 32


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,33}", fullmatch=True)
KEYWORDS = st.sampled_from(
    ["select", "order", "user", "table", "count", "value", "day", "rows", "w", "t", "s", "id", "a_id"]
)


# Making an expression takes a second, and shrinking would make it hundreds of times.
@settings(max_examples=12, phases=[Phase.explicit, Phase.generate])
@given(st.lists(NAMES | KEYWORDS | KEYWORDS.map(str.upper), min_size=3, max_size=3, unique=True))
def test_features_are_the_same_whatever_columns_are_called(names):
    try:
        named = contract(names[:2], names[2:])
    except ContractError:
        return
    plain = contract(("first_id", "second_id"), ("third",))
    n = 40
    random = np.random.default_rng(1)
    moments = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=12 * k) for k in range(n)]
    columns = [
        pa.array(range(n), pa.int64()),
        pa.array(moments, pa.timestamp("us", "UTC")),
        *(pa.array([f"x{value}" for value in random.integers(0, 5, n)]) for _ in range(2)),
        *(pa.array(random.lognormal(size=n)) for _ in range(2)),
    ]
    statements = {"is_fraud": [True], "label_timestamp": [moments[12]], "label_source": ["chargeback"]}

    def features(of):
        rows = pa.table(columns, schema=of.transactions_schema())
        first = {name: rows[name].slice(3, 1) for name in rows.column_names}
        said = pa.table({name: statements.get(name, first.get(name)) for name in of.labels_schema().names})
        made = compute_features(
            rows, said.cast(of.labels_schema()), of, start=moments[20], end=moments[-1] + dt.timedelta(days=1)
        )
        assert made.column_names == TABLES["transaction_features"](of).schema.names
        return [column.to_pylist() for column in made.columns]

    assert features(named) == features(plain)
