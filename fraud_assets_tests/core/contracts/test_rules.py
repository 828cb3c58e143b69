"""What a contract's rules may say, and what they may not: refused when the contract is read, by a sentence."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.conditions import ConditionError, parse_condition
from fraud_assets.core.contracts.contract import ContractError, load_contract, parse_contract
from fraud_assets.core.features.declarations import model_columns
from fraud_assets.settings import PROJECT_ROOT

CARDS = """
name: cards
first_month: 2024-01
transaction_id: {column: id}
event_timestamp: {column: time}
entities: {customer_id: {column: c, type: integer}, terminal_id: {column: t, type: integer}}
amount: {column: a, type: number}
attributes:
  country: {column: l, nullable: true}
  home: {column: h, nullable: true}
  expires: {column: e, type: date}
  present: {column: p, type: boolean}
features: [{entity: customer_id, aggregate: count, window: 6h}]
label: {column: fraud, delay_days: 7}
maturity_days: 14
sets: {risky: [XX, YY], steps: [1, 2.5]}
"""


def with_rule(when, **more):
    rule = {"name": "one", "when": when, "action": "review"} | more
    return parse_contract(f"{CARDS}\nrules: [{rule!r}]".replace("None", "null"))


@pytest.mark.parametrize(
    "when",
    [
        "amount > 5000 and country not in home",
        "country in risky or country in ['ZZ'] or amount in steps or amount in (-1, 3)",
        "10 < amount <= 50",
        "not present and customer_count_6h + 1 > 3",
        "expires < '2025-01-31' and hour >= 22",
        "customer_id is missing or country is not missing",
        "customer_id != terminal_id",
        "present == true and amount / customer_count_7d > -2 * (amount - 1)",
        "country == 'FR' 'ANCE'",
    ],
)
def test_what_a_rule_may_say(when):
    assert with_rule(when).rules[0].when == when


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("amuont > 5", "'amuont': there is no column, feature or set of this name; did you mean 'amount'?"),
        ("amount", "'amount' is a number, and a condition is true or false: compare it"),
        ("amount > '5'", "\"amount > '5'\": a number is compared with a text"),
        ("country > 'FR'", "a text has no order; compare it with == or !="),
        ("country in ['FR', 3]", "a text is compared with a number"),
        ("country in steps", "a text is compared with a number"),
        ("country == risky", "'risky': a set stands after `in` or `not in`"),
        ("country in amount > 3", "a text is compared with a number"),
        ("customer_id == 17", "identifiers are personal data, and stand in no contract"),
        ("customer_id in [17]", "identifiers are personal data, and stand in no contract"),
        ("expires < 'soon'", "a date is written as '2025-01-31'"),
        ("1 < 2", "names no column and no feature"),
        ("not amount", "'amount': this is a number, and true or false belongs here"),
        ("amount > 5 is missing", "after `is` stands `missing`"),
        ("amount ** 2 > 5", "of arithmetic there are +, -, * and /"),
        ("amount > 1e999", "values are numbers, texts in quotes, true and false"),
        ("amount > > 5", "cannot be read at character 10"),
        ("(" * 300 + "amount", "cannot be read"),
        ("amount > 5 " + "or amount > 5 " * 50, "a condition has at most 500"),
    ],
)
def test_what_a_rule_may_not_say_is_refused_with_place_and_remedy(when, said):
    with pytest.raises(ContractError) as refused:
        with_rule(when)
    assert "rule one: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "when",
    [
        "__import__('os').system('x') == 0", "amount.real > 3", "(lambda: 3)() > 2", "[x for x in amount] == 3",
        "amount[0] > 3", "f'{amount}' == 'a'", "(y := amount) > 3", "amount > 3 if present else 4", "max(amount) > 2",
        "{amount} == 3", "amount if amount else 3", "b'x' == country", "amount > 3j", "... == amount", "`amount` > 3",
        "amount @ amount > 3", "amount // 2 > 3", "amount | 3 > 3", "~present", "+amount > 3", "await amount",
        "amount > 3; amount", "amount = 3",
    ],
)  # fmt: skip
def test_nothing_of_python_that_is_no_condition_is_read(when):
    with pytest.raises(ContractError, match="rule one: "):
        with_rule(when)


@given(st.text(max_size=80) | st.text("amount()[]{}.:=<>!'\"and or not in is missing+-*/~@|&%\\\n\x00", max_size=80))
def test_any_text_is_a_condition_or_is_refused(text):
    kinds = parse_contract(CARDS).kinds
    try:
        found = parse_condition(text, kinds)
    except ConditionError:
        return
    assert found.kind == "boolean"
    allowed = (
        ast.Expression, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Name, ast.Constant, ast.List, ast.Tuple,
        ast.Load, ast.boolop, ast.unaryop, ast.operator, ast.cmpop,
    )  # fmt: skip
    assert all(isinstance(node, allowed) for node in ast.walk(ast.parse(text.strip(), mode="eval")))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("rules: [{name: one, when: amount > 3, action: block}]", "rules.0.action"),
        ("rules: [{name: One, when: amount > 3, action: allow}]", "rules.0.name"),
        ("rules: [{name: one, when: amount > 3, action: allow, version: 0}]", "rules.0.version"),
        ("rules: [{name: one, when: amount > 3, action: allow}, {name: one, when: amount > 4, action: allow}]",
         "there are two rules 'one'"),
        ("rules: [{name: one, when: amount > 3, action: allow, sinc: 2025-01-01}]", "did you mean since?"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_named(more, said):
    with pytest.raises(ContractError, match=said.replace("?", r"\?")):
        parse_contract(f"{CARDS}\n{more}")


@pytest.mark.parametrize(
    ("sets", "said"), [("{amount: [1]}", "has the name of a column"), ("{mixed: [FR, 1]}", "has texts and numbers")]
)
def test_a_set_that_cannot_be_is_named(sets, said):
    with pytest.raises(ContractError, match=said):
        parse_contract(CARDS.replace("{risky: [XX, YY], steps: [1, 2.5]}", sets))


def test_rules_change_no_row():
    assert with_rule("amount > 3").digest == parse_contract(CARDS).digest


@pytest.mark.parametrize("file", sorted((PROJECT_ROOT / "contracts").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_rule_can_name_each_column_and_feature_and_nothing_else(file):
    contract = load_contract(file)
    assert set(contract.kinds) == {*contract.columns, *model_columns(contract)}
    cards = parse_contract(CARDS)
    assert set(cards.kinds) == {*cards.columns, *model_columns(cards)}
