"""The monthly report of a built world: its facts are those of the tables, however and whenever it is made."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pytest

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.core.drift.columns import population_stability_index
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.monitoring.pictures import Pictures, stored_pictures
from fraud_assets.pages.report import ReportFacts, monthly_report
from fraud_assets.workflows.labels import read_completeness
from fraud_assets.workflows.report_page import gather_report, page_file, page_link, publish_report, write_report

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
    return gather_report(store, ledger, registry, in_world.months[-1])


def pictures_of(facts: ReportFacts) -> Pictures:
    first = date.fromisoformat(f"{facts.month}-01")
    (verdict,) = [row for row in facts.rows.to_pylist() if row["kind"] == "verdict" and row["month"] == first]
    found = stored_pictures(verdict)
    assert found is not None
    return found


def test_what_is_drawn_is_what_was_tested(facts: ReportFacts) -> None:
    first = date.fromisoformat(f"{facts.month}-01")
    psi = {
        row["feature"]: row["psi"]
        for row in facts.rows.to_pylist()
        if row["kind"] in ("covariate", "prediction") and row["month"] == first
    }
    drawn = [one for one in pictures_of(facts).histograms if one.feature in psi]
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
    found = pictures_of(facts).completeness
    assert found is not None
    assert found.as_of == facts.as_of
    assert [month.month for month in found.months] == list(world.months)
    for stored, now in zip(
        found.months, read_completeness(open_store(world.settings), facts.month).months, strict=True
    ):
        assert (stored.n, stored.n_matured, stored.n_fraud) == (now.n, now.n_matured, now.n_fraud)
        assert stored.still_to_come == pytest.approx(now.still_to_come, rel=1e-7)


def test_the_page_is_made_of_what_is_stored_and_is_the_same_each_time(
    in_world: World, store: MonthStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    stored = store.read
    monkeypatch.setattr(store, "read", lambda name, *of, **months: read.append(name) or stored(name, *of, **months))
    monkeypatch.setattr(Scorer, "score", lambda *_: pytest.fail("a page scores nothing"))
    ledger, registry, month = LedgerStore(store.database), Registry(in_world.settings), in_world.months[-1]
    pages = [
        write_report(in_world.settings, store, ledger, registry, month, output=tmp_path / name).read_bytes()
        for name in ("one.html", "two.html")
    ]
    assert pages[0] == pages[1]
    assert set(read) == {"drift_report", "evaluation"}


def test_the_asset_has_written_the_page_of_every_month_where_its_metadata_say(in_world: World) -> None:
    """The month's evaluation may not be there yet when its page is written; all else is what the command writes."""
    store = open_store(in_world.settings)
    ledger, registry = LedgerStore(store.database), Registry(in_world.settings)
    for month in in_world.months:
        facts = gather_report(store, ledger, registry, month)
        before = pc.less(facts.evaluation["month"], date.fromisoformat(f"{month}-01"))
        then = replace(facts, evaluation=facts.evaluation.filter(before))
        written = page_file(in_world.settings, month).read_text(encoding="utf-8")
        assert written in (monthly_report(then), monthly_report(facts)), month


def test_what_a_report_was_made_of_is_what_it_needs(facts: ReportFacts, in_world: World) -> None:
    """Of the last month: all transactions and labels that its windows and the labels' completeness reach."""
    assert {table: list(months) for table, months in facts.inputs.items()} == {
        "drift_report": list(in_world.months[:-1]),
        "fraud_labels": list(in_world.months),
        "raw_transactions": list(in_world.months),
        "transaction_features": list(in_world.months),
    }
    assert all(digest for months in facts.inputs.values() for digest in months.values())


def test_a_page_without_a_champion_is_kept_nowhere_else(in_world: World, tmp_path: Path) -> None:
    assert page_link(Registry(in_world.settings), None, in_world.months[0]) is None
    assert publish_report(Registry(in_world.settings), None, in_world.months[0], tmp_path / "page.html") is None
