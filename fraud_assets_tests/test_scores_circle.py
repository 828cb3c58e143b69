"""A full circle over HTTP: scored, labelled, and next month's training and figures use both.

The database's clock stands in the month after the scores while the service takes labels.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraud_assets.core.models.scoring import SCORE_EDGES
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets_tests.expressions import names_in, shown_expressions

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

# What analysts say on this day, of transactions of which nothing else is known: some that mature until then.
SAID_AT = "2025-05-12 09:30:00+00"
PASSED = {"FRAUD_PASS_THROUGH": "0.1", "FRAUD_PASS_THROUGH_AMOUNT": "100000"}
SAID = f"""
SELECT s.transaction_id, s.decision FROM scored_transactions s
WHERE s.event_timestamp < timestamptz '{SAID_AT}' - interval '14 days'
AND s.event_timestamp >= timestamptz '{NEXT}-01' - interval '14 days' AND NOT EXISTS (
    SELECT FROM fraud_labels l WHERE l.transaction_id::text = s.transaction_id)
ORDER BY s.probability DESC, s.transaction_id LIMIT 12
"""


# Whether it was fraud, as was said last.
LAST = (
    "coalesce((SELECT l.is_fraud FROM fraud_labels l WHERE l.transaction_id::text = s.transaction_id "
    "AND l.label_timestamp < '2025-06-01' ORDER BY l.label_timestamp DESC LIMIT 1), false)"
)


@contextmanager
def at_the_time(world: World, moment: str) -> Iterator[None]:
    """The database's clock shows a moment, for whoever connects until the block ends."""
    with psycopg.connect(world.url, autocommit=True) as connection:
        (name,) = connection.execute("SELECT quote_ident(current_database())").fetchone() or ("",)
        connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
            f"AS $$ SELECT timestamptz '{moment}' $$".encode()
        )
        connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog".encode())
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} RESET search_path".encode())
            connection.execute("DROP FUNCTION public.clock_timestamp()")


def scored(world: World, folder: Path) -> tuple[list[dict[str, Any]], str, dict[str, bool]]:
    """Asks a running `fraud serve` about a month's transactions, and says what became of some of them.

    Returns:
        What it answered, its metrics afterwards, and what was said of which transactions.
    """
    from fraud_assets_tests.worlds import free_port

    rows = [dict(zip(COLUMNS, row, strict=True)) for row in world.query(ROWS)]
    port = free_port()
    answers: list[dict[str, Any]] = []
    with (
        at_the_time(world, SAID_AT),
        world.running(folder / "log", "serve", "--port", str(port), **PASSED) as process,
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
        # The service counts a moment later, and of a request no more than a hundred rows.
        n_counted = sum(min(100, len(rows) - first) for first in range(0, len(rows), 200))
        while f"fraud_scorer_feature_rows_total {float(n_counted)}" not in (metrics := client.get("/metrics").text):
            assert time.monotonic() < until, metrics
            time.sleep(0.1)
        while world.query("SELECT count(*) FROM scored_transactions") != [(len(rows),)]:
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        with psycopg.connect(world.url) as connection:
            # The service's own clock shows today; these were asked about when they happened.
            connection.execute("UPDATE scored_transactions SET scored_at = event_timestamp + interval '1 second'")
            connection.execute(
                "UPDATE scored_months m SET last_scored_at = (SELECT max(scored_at) FROM scored_transactions s "
                "WHERE to_char(s.event_timestamp AT TIME ZONE 'UTC', 'YYYY-MM') = m.month)"
            )
        said = {key: place % 3 > 0 for place, (key, _) in enumerate(world.query(SAID))}
        labels = [
            {"transaction_id": int(key), "is_fraud": is_fraud, "label_source": "analyst"}
            for key, is_fraud in said.items()
        ]
        response = client.post("/v1/feedback", json={"labels": labels})
        assert response.status_code == 200, response.text
        assert (response.json()["taken"], response.json()["month"]) == (len(labels), NEXT)
    return answers, metrics, said


@pytest.fixture(scope="module")
def asked(
    own_world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], str, dict[str, bool]]:
    """What the service answered about April, its metrics, and what was said of some of it."""
    return scored(own_world, tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def served(asked: tuple[list[dict[str, Any]], str, dict[str, bool]]) -> tuple[list[dict[str, Any]], str]:
    """What the service answered about April, and its metrics."""
    return asked[:2]


@pytest.fixture(scope="module")
def circle(own_world: World, served: tuple[list[dict[str, Any]], str]) -> tuple[World, list[dict[str, Any]], int]:
    """The world after April was scored and labelled, and May was run."""
    answers, _ = served
    own_world.fraud("run", "--from", NEXT, "--to", NEXT)
    own_world.fraud("refresh", "--to", NEXT)
    return own_world, answers, answers[0]["model_version"]


@pytest.fixture(scope="module")
def whole(
    circle: tuple[World, list[dict[str, Any]], int], asked: tuple[list[dict[str, Any]], str, dict[str, bool]]
) -> tuple[World, list[dict[str, Any]], int, dict[str, bool]]:
    """The same with what was said."""
    return *circle, asked[2]


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
        f"SELECT count(*), count(*) FILTER (WHERE {LAST}) "
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


def test_the_next_training_learns_what_was_said_over_http(
    whole: tuple[World, list[dict[str, Any]], int, dict[str, bool]], tmp_path: Path
) -> None:
    world, _, _, said = whole
    ((newest,),) = world.query(f"SELECT model_version FROM trained_model WHERE month = '{NEXT}-01'")
    file = tmp_path / "frame.parquet"
    world.fraud("reproduce", str(newest), "--frame", str(file))
    frame = pq.read_table(file, columns=["transaction_id", "is_fraud", "label_source", "label_timestamp"])
    about = frame.filter(pc.is_in(frame["transaction_id"], pc.cast(list(said), "int64"))).to_pylist()
    assert {str(row["transaction_id"]): row["is_fraud"] for row in about} == said
    assert {row["label_source"] for row in about} == {"analyst"}
    assert {f"{row['label_timestamp']:%Y-%m-%d %H:%M}" for row in about} == {SAID_AT[:16]}
    # By the same rows and settings, the same bytes again.
    told = json.loads(world.fraud("reproduce", str(newest), "--json").stdout)
    assert told["same"], told


def test_the_next_figures_count_what_was_said_over_http(
    whole: tuple[World, list[dict[str, Any]], int, dict[str, bool]],
) -> None:
    world, answers, version, said = whole
    found = performance(world, version)["all", "all"]
    keys = ", ".join(f"'{key}'" for key, is_fraud in said.items() if is_fraud)
    ((n_said, value),) = world.query(
        "SELECT count(*), sum((transaction->>'amount')::float8) FROM scored_transactions "
        f"WHERE model_version = {version} AND transaction_id IN ({keys})"
    )
    assert n_said == sum(said.values()) > 0
    ((others,),) = world.query(
        "SELECT sum((s.transaction->>'amount')::float8) FROM scored_transactions s "
        f"WHERE model_version = {version} AND s.event_timestamp < timestamptz '2025-06-01' - interval '14 days' "
        f"AND s.event_timestamp >= timestamptz '{NEXT}-01' - interval '14 days' "
        f"AND s.transaction_id NOT IN ({keys}) AND {LAST}"
    )
    assert found["fraud_value"] == pytest.approx(others + value)
    through = [answer for answer in answers if answer.get("passed_through")]
    assert through
    ((n_through, weighted),) = world.query(
        f"SELECT n_passed_through, weighted_n FROM model_performance WHERE month = '{NEXT}-01' AND segment = 'all' "
        f"AND model_version = {version}"
    )
    assert n_through > 0
    # What went through, and ten for each that was let through.
    assert weighted == pytest.approx(found["n"] - found["n_flagged"] + 10 * n_through)


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


# Monitoring


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every value that an endpoint printed, by name and labels."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


# Printed in a state that this world is not in; `test_monitoring.py` brings each of them about.
ELSEWHERE = {
    "fraud_platform_waits_for_month_end_timestamp_seconds", "fraud_platform_waiting_until_timestamp_seconds",
    "fraud_platform_backups", "fraud_platform_backup_timestamp_seconds", "fraud_platform_backup_bytes",
    # Known from thirty frauds on.
    "fraud_platform_realised_average_precision_low", "fraud_platform_realised_average_precision_high",
}  # fmt: skip


def test_every_metric_that_a_dashboard_or_an_alert_names_is_printed(
    circle: tuple[World, list[dict[str, Any]], int], served: tuple[list[dict[str, Any]], str]
) -> None:
    printed = {name for name, _ in values(served[1])} | {name for name, _ in values(circle[0].fraud("metrics").stdout)}
    recorded = set(re.findall(r"record: (\S+)", (PROJECT_ROOT / "deploy/prometheus/rules.yml").read_text()))
    for place, expression in shown_expressions():
        named = names_in(expression)
        assert named, f"{place}: {expression} is about no metric"
        assert named <= printed | recorded | ELSEWHERE | {"up"}, f"{place}: {named - printed - recorded - ELSEWHERE}"


def test_the_platform_s_metrics_say_what_the_tables_say(circle: tuple[World, list[dict[str, Any]], int]) -> None:
    world, answers, version = circle
    before = world.digests()
    said = values(world.fraud("metrics").stdout)
    assert world.digests() == before
    by_version = (("model_version", str(version)),)
    whole = performance(world, version)["all", "all"]
    assert said["fraud_platform_realised_scored", by_version] == whole["n"]
    assert said["fraud_platform_realised_frauds", by_version] == whole["n_fraud"]
    assert said["fraud_platform_realised_average_precision", by_version] == whole["average_precision"]
    assert said["fraud_platform_serving_skew_largest_share", by_version] == 0
    ((last,),) = world.query("SELECT extract(epoch FROM max(scored_at))::float FROM scored_transactions")
    assert said["fraud_platform_last_score_timestamp_seconds", ()] == pytest.approx(last, abs=5)
    assert len(answers) > 0


def test_the_service_s_metrics_say_what_it_answered(served: tuple[list[dict[str, Any]], str]) -> None:
    answers, text = served
    said, version = values(text), str(served[0][0]["model_version"])
    assert said["fraud_scorer_model_processes", (("model_version", version),)] == 1
    reviewed = sum(answer["decision"] == "review" for answer in answers)
    decided = (("decision", "review"), ("model_version", version))
    assert said["fraud_scorer_decisions_total", decided] == reviewed
    # The same edges in both, written alike: a query joins them.
    counted = {dict(labels)["le"] for name, labels in said if name == "fraud_scorer_score_bucket"} - {"+Inf"}
    expected = {dict(labels)["le"]: value for (name, labels), value in said.items() if "score_reference" in name}
    assert set(expected) == counted == {str(edge) for edge in SCORE_EDGES}
    shares = [expected[str(edge)] for edge in SCORE_EDGES]
    assert shares == sorted(shares)
    assert (0 < shares[0] < 1, shares[-1]) == (True, 1)
    # Every request of a few at a time is in the sample, each with all its stages.
    requests = -(-len(answers) // 200)
    for stage in ("wait", "read", "features", "score", "keep", "write"):
        assert said["fraud_scorer_stage_seconds_count", (("stage", stage),)] == requests
        assert said["fraud_scorer_stage_seconds_sum", (("stage", stage),)] >= 0
    whole = said["fraud_scorer_stage_seconds_sum", (("stage", "features"),)]
    assert 0 < whole < 60
    ids = {str(answer["transaction_id"]) for answer in answers}
    assert not ids & set(re.findall(r'"([^"]*)"', text))
