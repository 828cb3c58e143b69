"""The monthly report of a built world: its facts are those of the tables, however and whenever it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.core.drift.columns import population_stability_index
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.pages.report import ReportFacts
from fraud_assets.workflows.report_page import gather_report, publish_report, write_report

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


@pytest.fixture
def store(in_world: World) -> MonthStore:
    return open_store(in_world.settings)


@pytest.fixture
def facts(in_world: World, store: MonthStore) -> ReportFacts:
    """Those of the last month, which drifts."""
    settings = in_world.settings
    ledger, registry = LedgerStore(store.database), Registry(settings)
    return gather_report(store, ledger, registry, in_world.months[-1], settings.drift)


def test_what_is_drawn_is_what_was_tested(facts: ReportFacts) -> None:
    psi = {row["feature"]: row["psi"] for row in facts.rows.to_pylist() if row["kind"] in ("covariate", "prediction")}
    drawn = [one for one in facts.histograms if one.feature in psi]
    assert "amount" in [one.feature for one in drawn]
    for one in drawn:
        found = population_stability_index(np.array(one.reference), np.array(one.current), DriftConfig().share_floor)
        assert found == pytest.approx(psi[one.feature], rel=1e-6), one.feature


def test_the_champion_is_the_one_that_was_live_in_the_month(facts: ReportFacts, world: World) -> None:
    version, since = world.query(
        f"SELECT champion_version, to_char(month, 'YYYY-MM') FROM champion WHERE to_char(month, 'YYYY-MM') < "
        f"'{world.months[-1]}' ORDER BY month DESC LIMIT 1"
    )[0]
    assert facts.champion is not None
    assert facts.champion.manifest is not None
    assert (facts.champion.version, facts.champion.manifest.model_version) == (version, version)
    assert facts.champion.since is not None
    assert facts.champion.since <= since


def test_labels_are_those_that_were_known_at_the_month_s_end(facts: ReportFacts, world: World) -> None:
    assert facts.completeness is not None
    assert facts.completeness.as_of == facts.as_of
    assert [month.month for month in facts.completeness.months] == list(world.months)


def test_the_asset_s_page_is_the_command_s(in_world: World, store: MonthStore, tmp_path: Path) -> None:
    ledger, registry, month = LedgerStore(store.database), Registry(in_world.settings), in_world.months[-1]
    rows = store.read("drift_report", first_month=month, last_month=month)
    pages = [
        write_report(in_world.settings, store, ledger, registry, month, rows=given, output=tmp_path / name).read_text()
        for given, name in ((rows, "asset.html"), (None, "command.html"))
    ]
    assert pages[0] == pages[1]


def test_a_page_without_a_champion_is_kept_nowhere_else(in_world: World, tmp_path: Path) -> None:
    assert publish_report(Registry(in_world.settings), None, in_world.months[0], tmp_path / "page.html") is None
