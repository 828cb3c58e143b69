"""What the platform says of itself, against what its tables hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fraud_assets.adapters.database import Database
from fraud_assets.adapters.ledger_store import LedgerStore
from fraud_assets.adapters.status import read_drift, read_status
from fraud_assets.adapters.table_io import MonthStore, open_store
from fraud_assets.core.contract import Contract

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


def test_an_empty_platform_has_no_drift_report_and_says_what_to_do(empty: MonthStore) -> None:
    with pytest.raises(ValueError, match=r"there is no drift report yet; stored months: none; use `fraud run`"):
        read_drift(empty, None)


def test_a_promoted_version_that_no_table_knows_is_still_named(empty: MonthStore) -> None:
    ledger = LedgerStore(empty.database)
    ledger.record("promoted", 7, "2025-03", "by hand", actor="ada")
    champion = read_status(empty, ledger)["champion"]
    assert (champion["version"], champion["actor"], champion["reasons"]) == (7, "ada", "by hand")
    assert (champion["model"], champion["evaluation"], champion["reference"], champion["bento_tag"]) == (None,) * 4


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


def test_drift_lists_the_verdict_then_the_features_by_psi(in_world: World) -> None:
    verdict, *features = read_drift(open_store(in_world.settings), in_world.months[-1])
    assert verdict["kind"] == "verdict"
    assert [row["psi"] for row in features] == sorted((row["psi"] for row in features), reverse=True)
    assert len(features) == len({(row["kind"], row["feature"]) for row in features})
