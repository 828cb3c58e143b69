"""For an absent model and for a refused promotion, the reason is where people look: run line, status, score, asset."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fraud_assets.core.months import month_start
from fraud_assets.core.reasons import Rule, reasons_from_json

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

CONTRACT = """
name: whynot
first_month: 2024-01
last_month: 2024-04
timezone: UTC
file_pattern: "{month}.csv"
transaction_id: {column: id, type: string}
event_timestamp: {column: timestamp, format: "%Y-%m-%d %H:%M:%S"}
amount: {column: amount, type: number}
attributes:
  v1: {column: v1, type: number, feature: true}
label: {column: fraud, fraud_values: ["1"], genuine_values: ["0"], delay_days: 5}
maturity_days: 7
"""
MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04")
# More than any fraud is worth: whatever a model flags costs more than reviewing nobody.
REVIEW_COST = "10000"


def _delivery(month: str, *, frauds: bool) -> str:
    """560 rows, twenty a day; every fourth is fraud, and has another v1."""
    lines = ["id,timestamp,v1,amount,fraud"]
    for number in range(560):
        moment = month_start(month).replace(day=number // 20 + 1, hour=number % 20)
        fraud = frauds and number % 4 == 3
        v1 = 3 * fraud + number % 7 / 2
        lines.append(f"{month}-{number},{moment:%Y-%m-%d %H:%M:%S},{v1},{5 + number % 13},{fraud:d}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, dict[str, str]]]]:
    """A world without a fraud in its first month, and what was said after that month and after all of them."""
    from fraud_assets_tests.worlds import PLAIN, World, quick_home, remove_home

    folder = tmp_path_factory.mktemp("whynot")
    contract = folder / "whynot.yaml"
    contract.write_text(CONTRACT)
    for month in MONTHS:
        (folder / f"{month}.csv").write_text(_delivery(month, frauds=month != MONTHS[0]))
    given = {
        "FRAUD_CONTRACT": str(contract), "FRAUD_SOURCE": "csv", "FRAUD_SOURCE_PATH": str(folder),
        "FRAUD_REVIEW_COST": REVIEW_COST, **PLAIN,
    }  # fmt: skip
    world = World(quick_home(), given, MONTHS)
    try:
        said = {}
        for first, last in ((MONTHS[0], MONTHS[0]), (MONTHS[1], MONTHS[-1])):
            run = world.fraud("run", "--from", first, "--to", last).stdout.partition("╭")[0]
            said[last] = {
                "run": run[run.index(f"{last}  ") - 2 :],
                "status": world.fraud("status").stdout,
                "json": world.fraud("status", "--json").stdout,
                "score": world.fraud("score", str(folder / f"{last}.csv"), fails=True).stderr,
            }
        yield world, said
    finally:
        remove_home(world.home)


def plain(text: str) -> str:
    """Text without the frame and the line breaks of a screen."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("place", ["run", "status", "score", "json"])
def test_why_there_is_no_model_is_said(told: tuple[World, dict[str, dict[str, str]]], place: str) -> None:
    world, said = told
    [(reason, version)] = world.query("SELECT reason, model_version FROM trained_model WHERE month = '2024-01-01'")
    assert version is None
    assert "fraud" in reason
    assert f"no model: {plain(reason)}" in plain(said["2024-01"][place]).replace('\\"', '"')


@pytest.mark.parametrize("place", ["run", "status", "score", "json"])
def test_why_a_promotion_was_refused_is_said(told: tuple[World, dict[str, dict[str, str]]], place: str) -> None:
    world, said = told
    [(reasons, promoted, version)] = world.query(
        "SELECT reasons, promoted, challenger_version FROM champion WHERE month = '2024-04-01'"
    )
    assert not promoted
    [why] = reasons_from_json(reasons)
    assert why.rule is Rule.USELESS
    assert "decides nothing worth having" in why.text
    assert "where reviewing nobody costs" in why.text
    assert f"version {version} was not promoted: {plain(why.text).rstrip('.')}" in plain(said["2024-04"][place])


def test_the_ledger_and_the_assets_of_the_ui_have_the_same_reasons(
    told: tuple[World, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dagster as dg

    from fraud_assets.adapters.dagster_storage import open_instance

    world, _ = told
    for name, value in (world.settings_given | {"FRAUD_HOME": str(world.home)}).items():
        monkeypatch.setenv(name, value)
    with open_instance(world.settings) as instance:

        def shown(asset: str, month: str, key: str) -> str:
            filter_ = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[month])
            [record] = instance.fetch_materializations(filter_, limit=1).records
            assert record.asset_materialization is not None
            return str(record.asset_materialization.metadata[key].value)

        [(absent,)] = world.query("SELECT reason FROM trained_model WHERE month = '2024-01-01'")
        assert shown("trained_model", "2024-01", "outcome") == absent
        [(refused,)] = world.query("SELECT reasons FROM champion WHERE month = '2024-04-01'")
        [why] = reasons_from_json(refused)
        assert why.text in shown("champion", "2024-04", "reasons")
        [(kept,)] = world.query("SELECT reasons FROM ledger WHERE kind = 'refused' AND month = '2024-04'")
        assert kept == [why.to_dict()]
        # The month after the first: why nothing could be judged is a row, and the decision carries the reason on.
        [(role, reason)] = world.query("SELECT role, reason FROM evaluation WHERE month = '2024-02-01'")
        assert (role, shown("evaluation", "2024-02", "outcome")) == ("none", reason)
        assert f"in 2024-01: {absent.rstrip('.')}" in reason
        [(carried,)] = world.query("SELECT reasons FROM champion WHERE month = '2024-02-01'")
        assert reasons_from_json(carried)[0].text.startswith("There is no challenger in 2024-02: ")


def test_the_marks_of_the_lines_say_where_to_look(told: tuple[World, dict[str, dict[str, str]]]) -> None:
    _, said = told
    assert said["2024-01"]["run"].startswith("! 2024-01")
    assert said["2024-04"]["run"].startswith("! 2024-04")


def test_the_status_for_machines_names_each_remark_by_its_subject(
    told: tuple[World, dict[str, dict[str, str]]],
) -> None:
    _, said = told
    status = json.loads(said["2024-01"]["json"])
    assert status["champion"] is None
    assert {"labels", "training", "promotion"} <= {remark["subject"] for remark in status["why"]}


def test_where_a_model_is_live_its_rule_is_stated_with_what_it_promised(tmp_path: Path) -> None:
    """On the screen and for machines, from a stored month; what came of it is not judged yet."""
    import io

    from rich.console import Console

    from fraud_assets.cli.tables.status import show_status
    from fraud_assets.core.models.decision_threshold import choose_threshold
    from fraud_assets.core.statistics.costs import Costs
    from fraud_assets.workflows.status import _decisions

    rule = choose_threshold(
        [True, False, True, False], [0.9, 0.2, 0.6, 0.1], cards=None, days=[0, 0, 1, 1], amount=[50.0, 1, 50, 1],
        capacity_per_day=1, costs=Costs(),
    )  # fmt: skip
    came = {
        column + end: value
        for column, value in {
            "alerts_per_day": 2.0, "recall_at_threshold": 0.5, "value_detection_rate": 0.25, "expected_cost": 40.0,
            "cost_without_review": 100.0,
        }.items()
        for end in ("", "_low", "_high")
    }  # fmt: skip
    decisions = _decisions(rule.as_row(), came)
    assert decisions["rule"] == rule.sentence
    assert decisions["figures"]["alerts_per_day"]["share"] == 2.0
    assert decisions["figures"]["recall"]["share"] == 0.5
    champion = {
        "version": 3, "since": month_start("2024-02"), "month": "2024-01", "model": None,
        "reasons": [{"rule": "better", "text": "It is better.", "column": None}],
        "evaluation": None, "reference": None, "bento_tag": None, "decisions": decisions,
    }  # fmt: skip
    shown = io.StringIO()
    status = {
        "contract": "c",
        "champion": champion,
        "why": [],
        "labels": [],
        "scores": None,
        "drift": None,
        "stale": [],
        "dead_runs": [],
        "waiting": [],
        "disagreements": [],
        "removed": "",
        "breaker": None,
    }
    show_status(Console(file=shown, width=200), status)
    said = plain(shown.getvalue())
    assert rule.sentence in said
    assert "alerts a day" in said
    assert "200.0 %" in said
    assert "25.0 %" in said
