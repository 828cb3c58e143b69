"""Rules mean the same of one transaction, of many and of stored months; and who decides is the same everywhere."""

import math
import operator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.conditions import Among, Constant, Name, Operation, parse_condition
from fraud_assets.core.contracts.contract import ContractError, parse_contract
from fraud_assets.core.guards.evaluation import Columns, is_true
from fraud_assets.core.guards.lists import EntityLists, ListError, read_identifier, read_until
from fraud_assets.core.guards.policy import Policy, bind_rules, rule_hits

CONTRACT = """
name: cards
first_month: 2024-01
timezone: Europe/Berlin
transaction_id: {column: id, type: integer}
event_timestamp: {column: time}
entities: {customer_id: {column: c, type: integer, nullable: true}}
amount: {column: a, type: number, nullable: true}
attributes:
  country: {column: l, nullable: true}
  home: {column: h, nullable: true}
  expires: {column: e, type: date, nullable: true}
  present: {column: p, type: boolean, nullable: true}
label: {column: fraud, delay_days: 7}
maturity_days: 14
sets: {risky: [XX, YY]}
"""
CARDS = parse_contract(CONTRACT)
AT = datetime(2024, 6, 1, tzinfo=UTC)
DAYS = date(2024, 1, 1), date(2025, 1, 1)

rows = st.fixed_dictionaries(
    {
        "customer_id": st.none() | st.integers(1, 4),
        "amount": st.none() | st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e300, -3.0]),
        "country": st.none() | st.sampled_from(["FR", "XX", "", "YY"]),
        "home": st.none() | st.sampled_from(["FR", "XX"]),
        "expires": st.none() | st.sampled_from(DAYS),
        "present": st.none() | st.booleans(),
        "customer_count_7d": st.none() | st.sampled_from([0.0, 1.0, 3.1, math.nan]),
    }
)
rows_names = ("amount", "customer", "country", "expires", "present")
numbers = st.recursive(
    st.sampled_from(["amount", "customer_count_7d", "2.5", "0", "1"]),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda one: f"({' '.join(one)})")
        | inner.map(lambda one: f"(-{one})")
    ),
    max_leaves=3,
)
compared = st.tuples(numbers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers).map(" ".join)
conditions = st.recursive(
    compared
    | st.sampled_from(
        [
            "country in risky", "country not in ['FR', '']", "country == home", "country not in home", "present",
            "amount in [0, 2.5]", "expires < '2024-06-01'", "expires == expires", "country is missing",
            "customer_count_7d is not missing", "present != false", "0 <= amount < 2.5", "customer_id is missing",
        ]
    ),
    lambda inner: st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda one: f"({' '.join(one)})")
    | inner.map(lambda one: f"not ({one})"),
    max_leaves=4,
).filter(lambda text: any(name in text for name in rows_names))  # fmt: skip


def table_of(given):
    """Transactions and features, as a request or a month has them."""
    schema = CARDS.transactions_schema()
    made = [
        {"transaction_id": place, "event_timestamp": AT + timedelta(days=place)}
        | {name: row[name] for name in CARDS.columns}
        for place, row in enumerate(given)
    ]
    features = pa.table({"customer_count_7d": pa.array([row["customer_count_7d"] for row in given], pa.float32())})
    return pa.Table.from_pylist(made, schema=schema), features


TWO = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip


def by_hand(condition, row):
    """What a condition says of a row, None where it is unknown: worked out one value at a time, as SQL says."""
    if isinstance(condition, Constant):
        return condition.value
    if isinstance(condition, Name):
        value = row[condition.name]
        if condition.name == "customer_count_7d" and value is not None:
            value = None if math.isnan(value) else float(np.float32(value))
        return value
    if isinstance(condition, Among):
        value = by_hand(condition.operand, row)
        return None if value is None else value in condition.values
    assert isinstance(condition, Operation)
    values = [by_hand(one, row) for one in condition.operands]
    if condition.operator in ("and", "or"):
        decisive = condition.operator == "or"
        return decisive if decisive in values else None if None in values else not decisive
    if condition.operator == "missing":
        return values[0] is None
    if None in values:
        return None
    if condition.operator == "not":
        return not values[0]
    if condition.operator == "negative":
        return -values[0]
    if condition.operator == "/" and values[1] == 0:
        return None
    with np.errstate(all="ignore"):
        found = TWO[condition.operator](*map(np.float64, values)) if condition.operator in "+-*/" else None
    if found is None:
        return TWO[condition.operator](*values)
    return None if math.isnan(found) else float(found)


@given(st.lists(rows, min_size=1, max_size=12), conditions)
def test_one_by_one_and_all_at_once_are_what_is_worked_out_by_hand(given_rows, text):
    condition = parse_condition(text, CARDS.kinds, CARDS.sets)
    transactions, features = table_of(given_rows)

    together = is_true(condition, Columns(transactions, features)).tolist()
    assert together == [by_hand(condition, row) is True for row in given_rows]
    (bound,) = bind_rules([CARDS_RULE.model_copy(update={"when": text})], CARDS.sets, CARDS)
    # As the service has it: a row of features by name, from memory, and a table of one.
    alone = [
        rule_hits(
            bound, Columns(transactions.slice(place, 1), [{"customer_count_7d": None if v is None or v != v else v}])
        )[0]
        for place, v in enumerate(features["customer_count_7d"].to_pylist())
    ]
    assert alone == together
    assert rule_hits(bound, Columns(transactions, features)).tolist() == together


def ruled(*rules):
    return parse_contract(f"{CONTRACT}\nrules: [{', '.join(rules)}]")


CARDS_RULE = ruled("{name: one, when: amount > 1, action: review}").rules[0]


def listed(*rows):
    lists = EntityLists()
    lists.take_up(
        {"number": number, "change": change, "list": name, "action": action, "entity": "customer_id", "value": value,
         "since": AT, "until": until}
        for number, (change, name, action, value, until) in enumerate(rows, start=1)
    )  # fmt: skip
    return lists


EACH = {
    "block": ("add", "bad", "block", "1", None),
    "decline": "{name: d, when: amount >= 0, action: decline}",
    "allow": ("add", "good", "allow", "1", None),
    "review": "{name: r, when: amount >= 0, action: review, version: 4}",
    "approve": "{name: a, when: amount >= 0, action: allow}",
}
ORDER = {"block": ("decline", "list bad"), "decline": ("decline", "rule d@1"), "allow": ("approve", "list good"),
         "review": ("review", "rule r@4"), "approve": ("approve", "rule a@1")}  # fmt: skip


@given(st.sets(st.sampled_from(sorted(EACH))), st.booleans(), st.randoms())
def test_of_all_that_have_something_to_say_the_strongest_decides(speaking, held, random):
    rules = [EACH[one] for one in speaking if isinstance(EACH[one], str)]
    random.shuffle(rules)
    contract = ruled(*rules)
    policy = Policy(
        bind_rules(contract.rules, contract.sets, contract),
        listed(*(EACH[one] for one in speaking if not isinstance(EACH[one], str))),
    )
    nothing = dict.fromkeys([*CARDS.columns, "customer_count_7d"])
    transactions, features = table_of([nothing | {"customer_id": 1, "amount": 1.0}])
    decided = policy.decide(np.array([held]), transactions, features, AT)
    strongest = next((one for one in ORDER if one in speaking), None)
    expected = ORDER[strongest] if strongest else ("review" if held else "approve", "model")
    assert (decided.decisions[0], decided.by[0]) == expected
    assert decided.by_model.tolist() == [strongest is None]


def test_of_several_rules_of_one_action_the_first_in_the_contract_is_named():
    contract = ruled("{name: z, when: amount > 1, action: review}", "{name: a, when: amount > 0, action: review}")
    transactions, features = table_of(
        [dict.fromkeys([*CARDS.columns, "customer_count_7d"]) | {"amount": one} for one in (0.5, 2.0, None)]
    )
    decided = Policy(bind_rules(contract.rules, contract.sets, contract)).decide(
        np.zeros(3, dtype=bool), transactions, features, AT
    )
    assert decided.by == ("rule a@1", "rule z@1", "model")


def test_a_rule_is_about_transactions_since_the_start_of_its_day_by_the_contract_s_clock():
    contract = ruled("{name: r, when: amount > 0, action: review, since: 2024-06-02}")
    bound = bind_rules(contract.rules, contract.sets, contract)[0]
    transactions, features = table_of([dict.fromkeys([*CARDS.columns, "customer_count_7d"]) | {"amount": 1.0}] * 2)
    # Midnight in Berlin is two hours before that in UTC.
    moments = pa.array([datetime(2024, 6, 1, 21, 59, tzinfo=UTC), datetime(2024, 6, 1, 22, tzinfo=UTC)],
                       pa.timestamp("us", tz="UTC"))  # fmt: skip
    transactions = transactions.set_column(1, "event_timestamp", moments)
    assert rule_hits(bound, Columns(transactions, features)).tolist() == [False, True]
    assert rule_hits(bound, Columns(transactions, features), always=True).tolist() == [True, True]


def test_a_rule_about_what_the_model_s_contract_does_not_have_is_refused():
    contract = ruled("{name: r, when: amount > 0 and country in risky, action: review}")
    without = parse_contract(CONTRACT.replace("  country: {column: l, nullable: true}\n", ""))
    with pytest.raises(ContractError, match="rule r: 'country': there is no column"):
        bind_rules(contract.rules, contract.sets, without)


# Lists


def found(lists, now=AT, action="block"):
    return list(lists.found("customer_id", [1, 2, None, 1], action, now))


def test_the_last_that_was_said_of_a_value_holds_and_of_several_lists_the_first_by_name():
    day = timedelta(days=1)
    lists = listed(
        ("add", "b", "block", "1", None), ("add", "a", "block", "1", AT + day), ("add", "c", "allow", "2", None)
    )
    assert found(lists) == [(0, "a"), (3, "a")]
    # An entry ends at its moment; another list's holds on.
    assert found(lists, AT + day) == [(0, "b"), (3, "b")]
    assert found(lists, AT - day) == []
    assert found(lists, action="allow") == [(1, "c")]
    lists.take_up([{"number": 4, "change": "remove", "list": "b", "action": "block", "entity": "customer_id",
                    "value": "1", "since": AT, "until": None}])  # fmt: skip
    assert (found(lists, AT + day), lists.last) == ([], 4)


def test_a_value_is_read_as_transactions_have_it_and_never_repeated_in_a_refusal():
    assert read_identifier(CARDS, "customer_id", " 0042 ") == "42"
    for value in ("secret-17", "", "1.5"):
        with pytest.raises(ListError) as refused:
            read_identifier(CARDS, "customer_id", value)
        assert "a value is no customer_id: contract cards has it as int64" in str(refused.value)
        assert not value or value not in str(refused.value)
    with pytest.raises(ListError, match="has no entity 'terminal_id'; there are customer_id"):
        read_identifier(CARDS, "terminal_id", "1")


def test_a_day_counts_as_a_whole_by_the_contract_s_clock():
    assert read_until("2024-06-01", CARDS, AT) == datetime(2024, 6, 1, 22, tzinfo=UTC)
    assert read_until("2024-06-02T10:00", CARDS, AT) == datetime(2024, 6, 2, 8, tzinfo=UTC)
    for text, said in (("2024-05-01", "is over"), ("soon", "neither a day nor a time"), ("9999-12-31", "neither")):
        with pytest.raises(ListError, match=said):
            read_until(text, CARDS, AT)
