"""The whole way, through the command: from a source's months to a promoted model, again, and with broken deliveries.

What one command prints belongs to `test_cli.py`; what one asset holds to `defs/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.months import month_end, month_start
from fraud_assets.core.simulator import simulate_month
from fraud_assets.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


# A simulated world, from its first month to a promoted model


def test_postgres_holds_as_many_transactions_a_month_as_the_source_delivers(world: World) -> None:
    delivered = {month: simulate_month(month, world.simulator).num_rows for month in world.months}
    for table in ("raw_transactions", "transaction_features"):
        stored = world.query(f"SELECT to_char(event_timestamp, 'YYYY-MM'), count(*) FROM {table} GROUP BY 1")
        assert dict(stored) == delivered


def test_a_fraud_is_stated_in_the_month_in_which_its_report_arrived(world: World) -> None:
    delivered = pa.concat_tables([simulate_month(month, world.simulator) for month in world.months])
    frauds = delivered.filter(delivered["is_fraud"])
    expected = {}
    for month in world.months:
        start, end = (
            pa.scalar(moment, frauds["label_timestamp"].type) for moment in (month_start(month), month_end(month))
        )
        known = pc.and_(pc.greater_equal(frauds["label_timestamp"], start), pc.less(frauds["label_timestamp"], end))
        expected[month] = pc.sum(known).as_py()
    stored = world.query(
        "SELECT to_char(label_timestamp, 'YYYY-MM'), count(*) FROM fraud_labels WHERE is_fraud GROUP BY 1"
    )
    assert dict(stored) == expected


def test_no_transaction_carries_its_label(world: World) -> None:
    columns = world.query("SELECT column_name FROM information_schema.columns WHERE table_name = 'raw_transactions'")
    assert not {"is_fraud", "label_timestamp", "fraud_scenario"} & {name for (name,) in columns}


def test_models_are_judged_only_on_what_happened_after_they_were_trained(world: World) -> None:
    rows = world.query("SELECT role, month, trained_month, window_from, window_to FROM evaluation WHERE role <> 'none'")
    assert {role for role, *_ in rows} == {"champion", "challenger", "reference"}
    for role, month, trained_month, window_from, window_to in rows:
        assert window_from >= month_end(trained_month), (role, month)
        # Two weeks before the month's end, when its last transactions have matured.
        assert (month_end(f"{month:%Y-%m}") - window_to).days == 14, (role, month)


def test_a_month_judges_all_its_models_on_the_same_transactions(world: World) -> None:
    windows = world.query(
        "SELECT count(DISTINCT (window_from, window_to, n, n_fraud)) FROM evaluation WHERE role <> 'none' "
        "GROUP BY month"
    )
    assert {count for (count,) in windows} == {1}


def test_an_evaluation_counts_the_matured_transactions_and_frauds_of_its_window(world: World) -> None:
    counted = world.query(
        """
        SELECT e.n, e.n_fraud, count(*), count(*) FILTER (WHERE l.transaction_id IS NOT NULL)
        FROM (SELECT DISTINCT month, window_from, window_to, as_of, n, n_fraud FROM evaluation WHERE role <> 'none') e
        JOIN raw_transactions t ON t.event_timestamp >= e.window_from AND t.event_timestamp < e.window_to
        LEFT JOIN fraud_labels l ON l.transaction_id = t.transaction_id AND l.is_fraud AND l.label_timestamp <= e.as_of
        GROUP BY e.month, e.n, e.n_fraud
        """
    )
    assert counted
    for n, n_fraud, transactions, frauds in counted:
        assert (n, n_fraud) == (transactions, frauds)


def test_the_champion_finds_fraud_far_better_than_chance(world: World) -> None:
    rows = world.query("SELECT average_precision, prevalence FROM evaluation WHERE role = 'champion'")
    assert rows
    for average_precision, prevalence in rows:
        assert average_precision > 10 * prevalence


def test_only_the_month_in_which_amounts_doubled_drifts(world: World) -> None:
    rows = world.query("SELECT to_char(month, 'YYYY-MM'), drift_status FROM drift_report WHERE kind = 'verdict'")
    verdicts = dict(rows)
    assert verdicts[world.months[-1]] == "DRIFT"
    assert set(verdicts) == set(world.months)
    assert "DRIFT" not in [verdicts[month] for month in world.months[:-1]]


def test_the_amount_is_among_what_drifted(world: World) -> None:
    found = world.query(
        f"SELECT drift_status, median_current / median_reference FROM drift_report "
        f"WHERE month = '{world.months[-1]}-01' AND feature = 'amount' AND kind = 'covariate'"
    )
    [(status, ratio)] = found
    assert status == "DRIFT"
    assert ratio == pytest.approx(2, rel=0.15)


def test_each_promoted_version_was_registered_and_then_validated(world: World) -> None:
    events = world.query("SELECT kind, model_version FROM ledger ORDER BY number")
    promoted = [version for kind, version in events if kind == "promoted"]
    assert promoted
    for version in promoted:
        places = [events.index((kind, version)) for kind in ("registered", "validated", "promoted")]
        assert places == sorted(places)


def test_a_month_without_a_single_older_model_promotes_nothing(world: World) -> None:
    first = world.query(f"SELECT promoted, champion_version FROM champion WHERE month = '{world.months[0]}-01'")
    assert first == [(False, None)]


def test_a_second_run_changes_no_row_and_registers_no_version(world: World) -> None:
    registered = "SELECT (SELECT count(*) FROM mlflow.model_versions), (SELECT count(*) FROM mlflow.runs)"
    before, versions = world.digests(), world.query(registered)
    world.fraud("run", "--from", world.months[0], "--to", world.months[-1])
    after = world.digests()
    assert {name for name in before if before[name] != after.get(name)} == set()
    assert after.keys() == before.keys()
    assert world.query(registered) == versions


# A table of one's own, without customers, terminals or history


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from fraud_assets_tests.worlds import World, quick_home, remove_home

    flat = World(
        quick_home(),
        {"FRAUD_CONTRACT": "contracts/flat_example.yaml", "FRAUD_SOURCE": "csv", "FRAUD_SOURCE_PATH": "examples"},
        ("2024-01", "2024-02", "2024-03"),
    )
    try:
        flat.fraud("run")
        yield flat
    finally:
        remove_home(flat.home)


def test_a_flat_table_goes_through_the_whole_graph(flat: World) -> None:
    evaluated = flat.query(
        "SELECT role, average_precision, prevalence FROM evaluation WHERE role <> 'none' ORDER BY month"
    )
    assert evaluated
    assert all(average_precision > 2 * prevalence for _, average_precision, prevalence in evaluated)


def test_a_flat_table_has_all_delivered_rows_and_neither_customer_nor_terminal(flat: World) -> None:
    assert flat.query("SELECT count(*) FROM raw_transactions") == [(4500,)]
    columns = flat.query("SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'")
    assert not [name for (name,) in columns if "customer" in name or "terminal" in name]


def test_without_months_given_a_run_covers_those_of_the_contract(flat: World) -> None:
    stored = flat.query("SELECT DISTINCT month FROM month_versions WHERE table_name = 'raw_transactions' ORDER BY 1")
    assert [month for (month,) in stored] == list(flat.months)


# Columns of any type


ANY_CONTRACT = """
name: any_column
first_month: 2024-01
last_month: 2024-03
file_pattern: "cards.csv"
transaction_id: {column: id, type: integer}
event_timestamp: {column: datetime}
entities:
  card_id: {column: card_id, type: integer}
amount: {column: amount, type: number}
attributes:
  currency: {column: currency, nullable: true}
  customer_present: {column: customer_present, type: boolean, nullable: true}
  expiration_date: {column: expiration_date, type: date, format: "%m/%y", nullable: true}
  provider: {column: provider, nullable: true}
  region: {column: region, nullable: true}
  country: {column: country}
  reference: {column: reference}
label: {column: fraud, delay_days: 5}
maturity_days: 5
"""


def _cards(n: int = 2400) -> str:
    """Rows in the shape of evalml's card transactions; fraud follows the provider, the region and the expiry."""
    draws = np.random.default_rng(11)
    start, lines = month_start("2024-01"), []
    for number, minute in enumerate(np.sort(draws.integers(0, 91 * 24 * 60, n))):
        moment = start + timedelta(minutes=int(minute))
        provider, region = draws.choice(["Visa", "Mastercard", "Zoë Pay", ""]), draws.integers(0, 60)
        year = draws.integers(23, 30)
        rate = 0.03 + 0.3 * (provider == "Zoë Pay") + 0.4 * (region % 12 == 0) + 0.2 * (year == 23)
        row = (
            number, draws.integers(0, 300), f"{moment:%Y-%m-%d %H:%M:%S}", draws.integers(1, 30_000),
            draws.choice(["EUR", "USD", "MYR"]), bool(draws.integers(0, 2)), f"{draws.integers(1, 13):02}/{year}",
            provider, f"Region {region}", "US", f"R-{number:06}", bool(draws.random() < rate),
        )  # fmt: skip
        lines.append(",".join(map(str, row)))
    header = (
        "id,card_id,datetime,amount,currency,customer_present,expiration_date,provider,region,country,reference,fraud"
    )
    return "\n".join([header, *lines]) + "\n"


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from fraud_assets_tests.worlds import World, quick_home, remove_home

    folder = tmp_path_factory.mktemp("cards")
    (folder / "any.yaml").write_text(ANY_CONTRACT)
    (folder / "cards.csv").write_text(_cards(), encoding="utf-8")
    world = World(
        quick_home(),
        {"FRAUD_CONTRACT": str(folder / "any.yaml"), "FRAUD_SOURCE": "csv", "FRAUD_SOURCE_PATH": str(folder)},
        ("2024-01", "2024-02", "2024-03"),
    )
    try:
        world.fraud("run")
        yield world
    finally:
        remove_home(world.home)


def test_columns_of_any_type_reach_the_model_and_what_says_nothing_does_not(cards: World) -> None:
    from fraud_assets.adapters.mlflow import Registry

    ((version, family),) = cards.query(
        "SELECT model_version, family FROM trained_model WHERE month = '2024-03-01' AND status = 'trained'"
    )
    _, manifest = Registry(cards.settings).fetch(version)
    assert manifest.family == family
    assert {"customer_present", "expiration_date", "currency", "provider", "region"} <= set(manifest.features)
    assert manifest.encoder is not None
    assert set(manifest.encoder.unused) >= {"country", "reference"}
    provider = {text.name: text for text in manifest.encoder.texts}["provider"]
    assert set(provider.own) == {"Visa", "Mastercard", "Zoë Pay"}
    assert provider.has_missing


def test_a_date_of_a_month_is_its_last_day_and_counts_from_the_transaction(cards: World) -> None:
    rows = cards.query(
        "SELECT expiration_date = date_trunc('month', expiration_date) + interval '1 month - 1 day' AS last, "
        "f.expiration_date_days = (r.event_timestamp AT TIME ZONE 'UTC')::date - r.expiration_date, count(*) "
        "FROM raw_transactions r JOIN (SELECT transaction_id, expiration_date AS expiration_date_days "
        "FROM transaction_features) f USING (transaction_id) GROUP BY 1, 2"
    )
    assert rows == [(True, True, 2400)]


def test_models_of_any_columns_find_fraud_far_better_than_chance(cards: World) -> None:
    evaluated = cards.query("SELECT average_precision, prevalence FROM evaluation WHERE month = '2024-03-01'")
    assert evaluated
    assert all(average_precision > 1.7 * prevalence for average_precision, prevalence in evaluated)


def test_a_file_with_values_that_training_never_saw_is_scored(cards: World, tmp_path: Path) -> None:
    header, *rows = _cards(30).splitlines()
    strange = [row.replace("Zoë Pay", "Nobody Pay").replace("Region ", "Regio ") for row in rows]
    (tmp_path / "more.csv").write_text("\n".join([header, *strange]), encoding="utf-8")
    # Of so few cards with so much fraud all are worth a review, so that no model goes live by itself.
    cards.fraud("promote", "1", "--reason", "to score with")
    cards.fraud("score", str(tmp_path / "more.csv"), "--output", str(tmp_path / "scored.parquet"))
    scored = pq.read_table(tmp_path / "scored.parquet")
    assert scored["score"].null_count == 0
    assert scored.num_rows == 30


# Broken deliveries


ODD_CONTRACT = """
name: odd
first_month: 2023-12
last_month: 2024-08
file_pattern: "{month}.csv"
transaction_id: {column: id, type: string}
event_timestamp: {column: timestamp}
amount: {column: amount, type: number, minimum: 0}
attributes:
  v1: {column: v1, type: number, feature: true}
label: {column: fraud, fraud_values: ["1"], delay_days: 5}
maturity_days: 7
"""
GOOD = ("2023-12", "2024-01", "2024-02", "2024-07", "2024-08")
BROKEN = ("2024-03", "2024-04", "2024-05", "2024-06")
HEADER = "id,timestamp,v1,amount,fraud\n"


def _delivery(month: str, *, frauds: bool = True) -> str:
    """280 rows, ten a day; every 20th is fraud, and has another v1."""
    lines = []
    for number in range(280):
        moment = month_start(month).replace(day=number // 10 + 1, hour=number % 10 + 5)
        fraud = frauds and number % 20 == 7
        lines.append(
            f"{month}-{number},{moment:%Y-%m-%d %H:%M:%S},{3 * fraud + number % 7 / 10},{5 + number % 13},{fraud:d}"
        )
    return HEADER + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, Any]]]:
    """A world whose folder has every kind of broken month between good ones, and what its first run said."""
    from fraud_assets_tests.worlds import PLAIN, World, quick_home, remove_home

    folder = tmp_path_factory.mktemp("odd")
    contract = folder / "odd.yaml"
    contract.write_text(ODD_CONTRACT)
    for month in GOOD:
        (folder / f"{month}.csv").write_text(_delivery(month, frauds=month not in ("2023-12", "2024-07")))
    # 2024-03 was never delivered.
    (folder / "2024-04.csv").write_text(_delivery("2024-04").replace("amount", "amt", 1))
    (folder / "2024-05.csv").write_text(HEADER)
    (folder / "2024-06.csv").write_bytes(b"\x1f\x8b\x08\x00 no gzip at all \xff\xfe")
    world = World(
        quick_home(),
        PLAIN | {"FRAUD_CONTRACT": str(contract), "FRAUD_SOURCE": "csv", "FRAUD_SOURCE_PATH": str(folder)},
        GOOD + BROKEN,
    )
    try:
        done = world.fraud("run", "--json", fails=True)
        yield world, {outcome["month"]: outcome for outcome in json.loads(done.stdout)["months"]}
    finally:
        remove_home(world.home)


def test_good_months_run_beside_broken_ones(odd: tuple[World, dict[str, Any]]) -> None:
    _, outcomes = odd
    assert {month for month, outcome in outcomes.items() if not outcome["failed"]} == set(GOOD)


@pytest.mark.parametrize(
    ("month", "said"),
    [
        ("2024-03", "has no file '2024-03.csv' for 2024-03"),
        ("2024-04", "2024-04.csv lacks 'amount' (for amount)"),
        ("2024-05", "2024-05.csv has no rows for 2024-05"),
        ("2024-06", "2024-06.csv cannot be read as UTF-8 CSV"),
    ],
)
def test_a_broken_month_says_in_one_line_what_is_wrong_and_stops_there(
    odd: tuple[World, dict[str, Any]], month: str, said: str
) -> None:
    world, outcomes = odd
    [failure] = outcomes[month]["failed"]
    assert failure["step"] == "raw_transactions"
    assert said in failure["error"]
    assert "\n" not in failure["error"]
    assert world.query(f"SELECT count(*) FROM month_versions WHERE month = '{month}'") == [(0,)]


def test_a_training_window_without_a_fraud_gives_no_model_and_says_so(odd: tuple[World, dict[str, Any]]) -> None:
    world, _ = odd
    [(status, reason, version)] = world.query(
        "SELECT status, reason, model_version FROM trained_model WHERE month = '2023-12-01'"
    )
    assert (status, version) == ("insufficient_data", None)
    assert "fraud" in reason


def test_a_month_without_fraud_is_stored_and_judges_no_model_on_itself_alone(odd: tuple[World, dict[str, Any]]) -> None:
    world, outcomes = odd
    assert outcomes["2024-07"]["facts"]["raw_transactions.fraud_rate"] == 0.0
    assert world.query("SELECT count(*) FROM raw_transactions WHERE event_timestamp >= '2024-07-01' "
                       "AND event_timestamp < '2024-08-01'") == [(280,)]  # fmt: skip
    [(role, reason)] = world.query("SELECT role, reason FROM evaluation WHERE month = '2024-07-01'")
    assert role == "none"
    assert reason


def test_a_failed_month_leaves_the_month_that_was_there_before(odd: tuple[World, dict[str, Any]]) -> None:
    world, _ = odd
    file = world.settings.source_folder / "2024-02.csv"  # type: ignore[operator]
    delivered = file.read_bytes()
    before = world.digests()
    file.write_bytes(b"%PDF-1.7\n" + delivered)
    try:
        done = world.fraud("run", "--from", "2024-02", "--to", "2024-02", fails=True)
    finally:
        file.write_bytes(delivered)
    assert "2024-02.csv is a PDF" in done.stdout
    assert world.digests() == before


def test_a_month_with_one_bad_row_in_ten_is_refused_and_the_old_one_stays(odd: tuple[World, dict[str, Any]]) -> None:
    world, _ = odd
    file = world.settings.source_folder / "2024-01.csv"  # type: ignore[operator]
    delivered = file.read_text()
    before = world.digests()
    header, *lines = delivered.splitlines()
    lines[::10] = [line.replace("2024-01-", "yesterday-") for line in lines[::10]]
    file.write_text("\n".join([header, *lines]))
    try:
        done = world.fraud("run", "--from", "2024-01", "--to", "2024-01", fails=True)
    finally:
        file.write_text(delivered)
    assert "28" in done.stdout
    assert world.digests() == before


def test_a_corrected_delivery_replaces_the_month(odd: tuple[World, dict[str, Any]]) -> None:
    world, _ = odd
    file = world.settings.source_folder / "2024-05.csv"  # type: ignore[operator]
    empty = file.read_text()
    file.write_text(_delivery("2024-05"))
    try:
        world.fraud("run", "--from", "2024-05", "--to", "2024-05")
    finally:
        file.write_text(empty)
    stored = world.query("SELECT count(*) FROM raw_transactions WHERE to_char(event_timestamp, 'YYYY-MM') = '2024-05'")
    assert stored == [(280,)]


def test_another_contract_does_not_enter_a_database_that_is_taken(odd: tuple[World, dict[str, Any]]) -> None:
    world, _ = odd
    done = world.fraud(
        "status", fails=True, FRAUD_DATABASE_URL=world.url,
        FRAUD_CONTRACT=str(PROJECT_ROOT / "contracts" / "simulator.yaml"),
    )  # fmt: skip
    assert "holds the months of contract 'odd', not of 'simulator'" in done.stderr


def test_the_examples_contract_is_what_this_module_expects() -> None:
    contract = load_contract(PROJECT_ROOT / "contracts" / "flat_example.yaml")
    assert (contract.first_month, contract.last_month, tuple(contract.entities)) == ("2024-01", "2024-03", ())


def test_rows_know_when_they_were_taken_in(world: World) -> None:
    [(first, last)] = world.query("SELECT min(ingested_at), max(ingested_at) FROM raw_transactions")
    assert isinstance(first, datetime)
    assert first <= last <= datetime.now(first.tzinfo)


def test_everything_local_lies_in_the_home(world: World) -> None:
    assert {path.name for path in world.home.iterdir()} - {"postgres.lock"} == {"postgres", "simulator", "keys"}
    assert {path.name for path in (world.home / "simulator").iterdir()} <= {
        "artifacts",
        "bentoml",
        "dagster",
        "ledger-head.json",
        "reports",
    }
