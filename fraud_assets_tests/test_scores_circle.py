"""A month's circle: scored over HTTP, labelled, and next month the platform says how the model did where it decided."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

SCORED = "2025-04"
NEXT = "2025-05"
COLUMNS = ("transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount", "merchant_segment")
# Every tenth, and every fraud that was ever reported.
ROWS = f"""
SELECT {", ".join(f"r.{name}" for name in COLUMNS)} FROM raw_transactions r
WHERE to_char(r.event_timestamp, 'YYYY-MM') = '{SCORED}' AND (r.transaction_id % 10 = 0 OR EXISTS (
    SELECT FROM fraud_labels l WHERE l.transaction_id = r.transaction_id AND l.is_fraud))
ORDER BY r.event_timestamp
"""


def scored(world: World, folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Asks a running `fraud serve` about a month's transactions; what it answered, and by which version."""
    from fraud_assets_tests.worlds import free_port

    rows = [dict(zip(COLUMNS, row, strict=True)) for row in world.query(ROWS)]
    port = free_port()
    answers: list[dict[str, Any]] = []
    with (
        world.running(folder / "log", "serve", "--port", str(port)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        until = time.monotonic() + 120
        while True:
            with suppress(httpx.TransportError):
                if client.get("/readyz").status_code == 200:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.5)
        for first in range(0, len(rows), 200):
            asked = [row | {"event_timestamp": row["event_timestamp"].isoformat()} for row in rows[first : first + 200]]
            response = client.post("/v1/score", json={"transactions": asked})
            assert response.status_code == 200, response.text
            answers += response.json()["results"]
    return answers, answers[0]["model_version"]


@pytest.fixture(scope="module")
def circle(own_world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[dict[str, Any]], int]:
    """The world after April was scored and May was run."""
    answers, version = scored(own_world, tmp_path_factory.mktemp("serve"))
    own_world.fraud("run", "--from", NEXT, "--to", NEXT)
    own_world.fraud("refresh", "--to", NEXT)
    return own_world, answers, version


def performance(world: World, version: int) -> dict[tuple[str, str], dict[str, Any]]:
    columns = ("segment", "value", "n", "n_flagged", "n_labelled", "n_fraud", "average_precision", "fraud_value")
    found = world.query(
        f"SELECT {', '.join(columns)} FROM model_performance WHERE model_version = {version} "
        f"AND to_char(month, 'YYYY-MM') = '{NEXT}'"
    )
    return {row[:2]: dict(zip(columns, row, strict=True)) for row in found}


def test_each_answer_is_kept_and_status_says_so(circle: tuple[World, list[dict[str, Any]], int]) -> None:
    world, answers, version = circle
    kept = dict(
        world.query(f"SELECT transaction_id, probability FROM scored_transactions WHERE model_version = {version}")
    )
    assert kept == {str(answer["transaction_id"]): answer["probability"] for answer in answers}
    status = json.loads(world.fraud("status", "--json").stdout)
    assert (status["scores"]["n_rows"], status["scores"]["month"], status["scores"]["lost"]) == (len(kept), SCORED, {})
    assert f"Scores: {len(kept):,} of {SCORED} are kept" in world.fraud("status").stdout
    assert status["stale"] == []


def test_the_service_saw_the_features_that_the_batch_has(circle: tuple[World, list[dict[str, Any]], int]) -> None:
    world, answers, version = circle
    rows = world.query(
        "SELECT feature, n_scored, n_matched, n_missing, n_extra, n_mismatch FROM serving_skew "
        f"WHERE to_char(month, 'YYYY-MM') = '{SCORED}' AND model_version = {version}"
    )
    n = len(answers)
    assert len(rows) > 20
    assert {row[1:] for row in rows} == {(n, n, 0, 0, 0)}, [row for row in rows if row[3:] != (0, 0, 0)]


def test_the_next_month_says_what_the_scores_came_to(circle: tuple[World, list[dict[str, Any]], int]) -> None:
    world, answers, version = circle
    found = performance(world, version)
    whole = found["all", "all"]
    ((maturity,),) = [(world.settings.loaded_contract.maturity_days,)]
    window = (
        f"event_timestamp >= timestamptz '{SCORED}-01 00:00+00' AND "
        f"event_timestamp < timestamptz '2025-06-01 00:00+00' - interval '{maturity} days'"
    )
    ((n, n_fraud),) = world.query(
        "SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM fraud_labels l WHERE l.is_fraud "
        "AND l.transaction_id::text = s.transaction_id AND l.label_timestamp < '2025-06-01')) "
        f"FROM scored_transactions s WHERE model_version = {version} AND {window} "
        f"AND event_timestamp >= timestamptz '2025-05-01 00:00+00' - interval '{maturity} days'"
    )
    assert (whole["n"], whole["n_labelled"], whole["n_fraud"]) == (n, n, n_fraud)
    assert n_fraud > 0
    assert 0 < whole["average_precision"] <= 1
    days = [row for (segment, _), row in found.items() if segment == "date"]
    assert sum(row["n"] for row in days) == n
    assert {segment for segment, _ in found} >= {"all", "date", "amount", "merchant_segment"}
    assert len(answers) >= n


def test_a_label_that_is_added_is_in_the_next_figures(
    circle: tuple[World, list[dict[str, Any]], int], tmp_path: Path
) -> None:
    world, _, version = circle
    before = performance(world, version)["all", "all"]
    ((key, amount),) = world.query(
        "SELECT s.transaction_id, (s.transaction->>'amount')::float8 FROM scored_transactions s "
        f"WHERE model_version = {version} AND NOT EXISTS (SELECT FROM fraud_labels l "
        "WHERE l.transaction_id::text = s.transaction_id) AND s.transaction->>'amount' IS NOT NULL "
        "ORDER BY event_timestamp DESC LIMIT 1 OFFSET 20"
    )
    file = tmp_path / "late.csv"
    file.write_text(
        f"transaction_id,is_fraud,label_timestamp,label_source\n{key},true,2025-05-20T12:00:00+00:00,analyst\n"
    )
    world.fraud("labels", "add", str(file))
    assert "model_performance" in {one["table"] for one in json.loads(world.fraud("status", "--json").stdout)["stale"]}
    world.fraud("refresh", "--to", NEXT)
    after = performance(world, version)["all", "all"]
    assert (after["n"], after["n_fraud"]) == (before["n"], before["n_fraud"] + 1)
    assert after["fraud_value"] == pytest.approx(before["fraud_value"] + amount)
