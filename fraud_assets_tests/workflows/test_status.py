"""What the platform says of itself, against what its tables hold."""

from __future__ import annotations

import io
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from rich.console import Console

from fraud_assets.adapters.guards.breaker_events import record_closing, record_opening
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.cli.tables.status import breaker_line, show_versions, stale_table
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.staleness import Stale
from fraud_assets.core.models.live import LiveModel
from fraud_assets.workflows.guards.lists import lists_session
from fraud_assets.workflows.status import as_row, read_drift, read_status, read_versions
from fraud_assets_tests.sentences import because, said

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


@pytest.fixture
def empty(database: Database, simulator_contract: Contract) -> MonthStore:
    return MonthStore(database, simulator_contract)


@pytest.fixture
def status(in_world: World) -> dict[str, Any]:
    store = open_store(in_world.settings)
    return read_status(store, LedgerStore(store.database))


def test_an_empty_platform_has_nothing(empty: MonthStore) -> None:
    status = read_status(empty, LedgerStore(empty.database))
    assert (status["champion"], status["drift"], status["decision"]) == (None, None, None)
    assert not any(status["months"].values())
    assert status["stale"] == []


def test_an_empty_platform_has_no_drift_report_and_says_what_to_do(empty: MonthStore) -> None:
    with pytest.raises(ValueError, match=r"there is no drift report yet; stored months: none; use `fraud run`"):
        read_drift(empty, None)


def test_a_promoted_version_that_no_table_knows_is_still_named(empty: MonthStore) -> None:
    ledger = LedgerStore(empty.database)
    ledger.record("promoted", 7, "2025-03", because("by hand"), actor="ada")
    champion = read_status(empty, ledger)["champion"]
    assert (champion["version"], champion["actor"], said(champion["reasons"])) == (7, "ada", "by hand")
    assert (champion["model"], champion["evaluation"], champion["reference"], champion["bento_tag"]) == (None,) * 4


@pytest.mark.parametrize(("version", "tag"), [(7, "fraud_scorer:v7-0f"), (6, None)])
def test_the_bento_of_a_champion_is_the_one_that_is_named_for_serving(
    empty: MonthStore, version: int, tag: str | None
) -> None:
    """As after an approval: the table of bentos follows with its next month."""
    ledger = LedgerStore(empty.database)
    ledger.record("promoted", 7, "2025-03", because("by hand"), actor="ada")
    live = LiveModel(version, 1, "a" * 64, f"fraud_scorer:v{version}-0f", "bentos", {})
    assert read_status(empty, ledger, live=live)["champion"]["bento_tag"] == tag


def test_an_open_breaker_of_the_champion_is_shown_until_it_is_closed(empty: MonthStore) -> None:
    ledger = LedgerStore(empty.database)
    for version in (6, 7):
        ledger.record("promoted", version, "2025-03", because("by hand"), actor="ada")
    shown = []
    with lists_session(empty.database.url) as session:
        record_opening(session, 6, "review", 200, 180, "an earlier version held much", "a service")
        shown.append(read_status(empty, ledger)["breaker"])
        record_opening(session, 7, "previous", 200, 190, "190 of 200 were held", "a service")
        shown.append(read_status(empty, ledger)["breaker"])
        record_closing(session, "the feed was mended", "ada")
        shown.append(read_status(empty, ledger)["breaker"])
    assert (shown[0], shown[2]) == (None, None)
    assert (shown[1]["mode"], shown[1]["said"]) == ("previous", "190 of 200 were held")
    assert "and the previous version answers: 190 of 200 were held. See" in breaker_line(shown[1])


def test_the_months_of_a_table_are_those_that_were_run(status: dict[str, Any], world: World) -> None:
    assert all(months == list(world.months) for months in status["months"].values())


def test_the_drift_shown_is_the_newest_month_s_verdict(status: dict[str, Any], world: World) -> None:
    assert (status["drift"]["kind"], f"{status['drift']['month']:%Y-%m}") == ("verdict", world.months[-1])


def test_the_decision_shown_is_the_newest_month_s(status: dict[str, Any], world: World) -> None:
    assert f"{status['decision']['month']:%Y-%m}" == world.months[-1]


def test_the_evaluation_shown_is_the_champion_s_newest(status: dict[str, Any], world: World) -> None:
    champion = status["champion"]
    newest = world.query(
        f"SELECT average_precision FROM evaluation WHERE model_version = {champion['version']} AND role <> 'reference' "
        "ORDER BY month DESC LIMIT 1"
    )
    assert [(champion["evaluation"]["average_precision"],)] == newest


def test_drift_lists_the_verdict_then_the_findings_the_gravest_first(in_world: World) -> None:
    verdict, *features = read_drift(open_store(in_world.settings), in_world.months[-1])
    assert verdict["kind"] == "verdict"
    gravity = ["DRIFT", "WATCH", "INSUFFICIENT_DATA", "OK"]
    found = [gravity.index(row["drift_status"]) for row in features]
    assert found == sorted(found)
    assert len(features) == len({(row["kind"], row["feature"], row["segment"]) for row in features})


# Stale months


STALE = [
    Stale("fraud_labels", "2025-01", ("the contract has changed",)),
    Stale("fraud_labels", "2025-02", ("the contract has changed",)),
    Stale("evaluation", "2025-04", (), (("fraud_labels", "2025-02"),)),
]


def shown(what: Any) -> str:
    text = io.StringIO()
    Console(file=text, width=160).print(what)
    return text.getvalue()


def test_status_names_each_stale_month_with_what_changed_and_why(empty: MonthStore) -> None:
    status = read_status(empty, LedgerStore(empty.database), STALE)
    assert status["stale"][1:] == [
        {
            "table": "fraud_labels", "month": "2025-02",
            "changes": ["the contract has changed"], "reasons": ["the contract has changed"],
        },
        {
            "table": "evaluation", "month": "2025-04", "changes": [],
            "reasons": ["it was built on fraud_labels 2025-02, which is stale"],
        },
    ]  # fmt: skip


def test_stale_months_are_shown_by_table_with_runs_of_months_drawn_together() -> None:
    text = shown(stale_table([as_row(one) for one in STALE]))
    assert "Stale: 3 months of tables; `fraud refresh` rebuilds them" in text
    [labels] = [line for line in text.splitlines() if "fraud_labels" in line]
    assert "2025-01 to 2025-02" in labels
    assert labels.count("the contract has changed") == 1
    [evaluation] = [line for line in text.splitlines() if "evaluation" in line]
    assert "may turn out unchanged" in evaluation


def test_of_many_changes_the_first_are_shown_and_the_others_counted() -> None:
    many = [as_row(Stale("evaluation", "2025-04", tuple(f"change {n}" for n in range(9))))]
    text = shown(stale_table(many, limit=2))
    assert "change 1" in text
    assert "change 2" not in text
    assert "and 7 more changes" in text


# Versions


def write_bento(store: MonthStore, month: str, tag: str, made_of: str) -> None:
    rows = [{"month": date.fromisoformat(f"{month}-01"), "bento_tag": tag}]
    table = pa.Table.from_pylist(rows, schema=store.table("fraud_bento").schema)
    store.replace_months("fraud_bento", table, [month], inputs={"champion": {month: made_of}}, run_id="run-1")


def test_every_version_of_a_month_is_listed_with_what_it_was_made_of(empty: MonthStore) -> None:
    write_bento(empty, "2025-01", "one", "a")
    write_bento(empty, "2025-02", "one", "a")
    write_bento(empty, "2025-01", "two", "b")
    write_bento(empty, "2025-01", "two", "c")
    first, second, third = read_versions(empty, "fraud_bento", "2025-01")
    assert [row["inputs"] for row in (first, second, third)] == [
        {"champion": {"2025-01": made_of}} for made_of in ("a", "b", "c")
    ]
    assert first["digest"] != second["digest"] == third["digest"]
    assert (second["n_rows"], second["added"], second["removed"], second["altered"]) == (1, 0, 0, 1)
    assert second["run_id"] == "run-1"
    assert [row["month"] for row in read_versions(empty, "fraud_bento", None)] == ["2025-01", "2025-02"] + [
        "2025-01"
    ] * 2


def test_versions_are_shown_with_the_start_of_their_digest(empty: MonthStore) -> None:
    write_bento(empty, "2025-01", "one", "a")
    [version] = read_versions(empty, "fraud_bento", None)
    text = io.StringIO()
    show_versions(Console(file=text, width=160), "fraud_bento", [version])
    assert version["digest"][:12] in text.getvalue()


@pytest.mark.parametrize(
    ("table", "month", "said"),
    [
        ("fraud_bentos", None, "'fraud_bentos' is no table; there are raw_transactions"),
        ("fraud_bento", "2025-02", "fraud_bento has no 2025-02; stored months: 2025-01"),
        ("fraud_bento", "February", "'February' is not a month"),
    ],
)
def test_a_table_or_month_that_is_not_there_is_named(
    empty: MonthStore, table: str, month: str | None, said: str
) -> None:
    write_bento(empty, "2025-01", "one", "a")
    with pytest.raises(ValueError, match=said):
        read_versions(empty, table, month)
