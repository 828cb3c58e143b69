"""What the platform tells Prometheus, and what is asked of it: `fraud metrics`, dashboards, rules.

That every metric which is asked after is printed, by the service and by the platform, is shown in
`test_scores_circle.py`, where scores have come to something.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from fraud_assets.adapters.backups.folder import write_manifest
from fraud_assets.adapters.postgres.approvals import ask
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.prometheus.exposition import PlatformCollector, as_text, serve_metrics, write_file
from fraud_assets.cli import app
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.monitoring.metrics import METRICS, PREFIX, REALISED, Sample, realised_samples, skew_samples
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.monitoring import read_metrics
from fraud_assets_tests.expressions import DASHBOARDS, RULES, names_in, shown_expressions

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

PROMETHEUS = PROJECT_ROOT / "deploy" / "prometheus"
LABELS = {"table", "month", "status", "role", "model_version", "contract", "version"}


def read(settings: Settings, now: datetime | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    """The values by metric and labels."""
    return {(one.metric, tuple(one.labels.values())): one.value for one in read_metrics(settings, now)}


def promtool(*arguments: str | Path) -> None:
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), "promtool is missing; .ci/run installs it"
        pytest.skip("promtool is missing: apt-get install prometheus")
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# What is read


def test_it_says_what_is_stored_what_is_live_and_what_drift_says(in_world: World) -> None:
    world, before = in_world, in_world.digests()
    said = read(world.settings, datetime(2025, 5, 2, tzinfo=UTC))
    assert world.digests() == before
    status = json.loads(world.fraud("status", "--json").stdout)
    end = datetime(2025, 5, 1, tzinfo=UTC).timestamp()
    assert said["months", ("evaluation",)] == 4
    assert said["newest_month_end_timestamp_seconds", ("evaluation",)] == end
    assert said["drift_month_end_timestamp_seconds", ()] == end
    assert [said["drift_status", (one,)] for one in ("OK", "WATCH", "DRIFT", "INSUFFICIENT_DATA")] == [0, 0, 1, 0]
    assert said["drift_findings", ("DRIFT",)] > 0
    assert said["champion_version", ()] == status["champion"]["version"]
    trained = status["champion"]["model"]["as_of"]
    assert said["champion_month_end_timestamp_seconds", ()] == datetime.fromisoformat(trained).timestamp()
    role = status["champion"]["evaluation"]["role"]
    assert said["average_precision", (role,)] == status["champion"]["evaluation"]["average_precision"]
    assert (said["months_to_run", ()], said["source_readable", ()], said["readable", ()]) == (0, 1, 1)
    assert sum(value for (name, _), value in said.items() if name == "stale_months") == len(status["stale"])
    assert (said["runs", ("SUCCESS",)] > 0, said["runs", ("FAILURE",)], said["dead_runs", ()]) == (True, 0, 0)
    assert said["ledger_rows", ()] == world.query("SELECT count(*) FROM ledger")[0][0]
    # Unset, so that no alert asks for backups that nobody wants.
    assert "backups" not in {name for name, _ in said}


@pytest.mark.parametrize("now", ["2025-04-20", "2025-05-02", "2026-01-01"])
def test_labels_are_those_that_are_known_by_then(in_world: World, now: str) -> None:
    moment = datetime.fromisoformat(f"{now}T00:00+00:00")
    said, maturity = read(in_world.settings, moment), in_world.settings.loaded_contract.maturity_days
    for month in ("2025-02", "2025-03", "2025-04"):
        span = f"to_char(event_timestamp AT TIME ZONE 'UTC', 'YYYY-MM') = '{month}'"
        ((n, matured),) = in_world.query(
            f"SELECT count(*), count(*) FILTER (WHERE event_timestamp < timestamptz '{now} 00:00+00' "
            f"- interval '{maturity} days') FROM raw_transactions WHERE {span}"
        )
        ((frauds,),) = in_world.query(
            f"SELECT count(DISTINCT transaction_id) FROM fraud_labels WHERE is_fraud AND {span} "
            f"AND label_timestamp <= timestamptz '{now} 00:00+00'"
        )
        assert said["transactions", (month,)] == n > 0
        assert (said["matured_transactions", (month,)], said["known_frauds", (month,)]) == (matured, frauds)
    assert said["newest_label_timestamp_seconds", ()] <= moment.timestamp()
    assert ("transactions", ("2025-01",)) not in said


def test_every_metric_is_declared_and_no_label_holds_anything_of_a_person(in_world: World) -> None:
    samples = read_metrics(in_world.settings)
    assert {name for sample in samples for name in sample.labels} <= LABELS
    with pytest.raises(ValueError, match="'amount' is no metric"):
        Sample("amount", 1)
    # A metric has the same labels wherever it is printed, and each combination of them once.
    text = as_text(samples)
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families} == {f"{PREFIX}{sample.metric}" for sample in samples}
    for family in families:
        assert family.documentation == METRICS[family.name.removeprefix(PREFIX)]
        labels = [tuple(sorted(sample.labels.items())) for sample in family.samples]
        assert len(labels) == len(set(labels))
        assert len({tuple(name for name, _ in one) for one in labels}) == 1


def test_a_backup_s_age_is_that_of_the_newest_whole_one(in_world: World, tmp_path: Path) -> None:
    for number, made_at in enumerate(("2025-05-01T03:00:00+00:00", "2025-05-03T03:00:00+00:00")):
        (tmp_path / f"b{number}").mkdir()
        write_manifest(tmp_path / f"b{number}", {"contract": "simulator", "made_at": made_at, "bytes": 7}, {})
    settings = in_world.settings.model_copy(update={"backup_folder": tmp_path})
    said = read(settings)
    assert said["backups", ()] == 2
    assert said["backup_timestamp_seconds", ()] == datetime(2025, 5, 3, 3, tzinfo=UTC).timestamp()
    assert said["backup_bytes", ()] == 7
    (tmp_path / "b1" / "manifest.json").write_text("{}")
    assert read(settings)["backup_timestamp_seconds", ()] == datetime(2025, 5, 1, 3, tzinfo=UTC).timestamp()
    assert read(settings.model_copy(update={"backup_folder": tmp_path / "none"}))["backups", ()] == 0


def test_a_late_delivery_is_told_and_an_early_one_is_not(server: Callable[[str], Database], tmp_path: Path) -> None:
    server("monitored")
    contract = tmp_path / "contract.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    text = text.replace("name: simulator", "name: monitored")
    contract.write_text(f"{text}\nfile_pattern: 'delivery_{{month}}.csv'\n", encoding="utf-8")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "delivery_2025-01.csv").write_text("a\n1\n")
    settings = Settings(contract=contract, source="files", source_path=tmp_path / "in")
    late = "waits_for_month_end_timestamp_seconds"
    said = read(settings, datetime(2025, 3, 20, tzinfo=UTC))
    assert (said["months_to_run", ()], said[late, ()]) == (1, datetime(2025, 3, 1, tzinfo=UTC).timestamp())
    assert (late, ()) not in read(settings, datetime(2025, 2, 20, tzinfo=UTC))
    away = {"source": "postgres", "source_url": "postgresql://127.0.0.1:9/away", "source_query": "rows"}
    gone = read(settings.model_copy(update=away))
    assert (gone["source_readable", ()], "months_to_run" in {name for name, _ in gone}) == (0, False)


def test_what_waits_for_a_person_is_told_until_when(server: Callable[[str], Database], tmp_path: Path) -> None:
    database, until = server("monitored"), datetime(2025, 3, 10, tzinfo=UTC)
    contract = tmp_path / "contract.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", "name: monitored"), encoding="utf-8")
    settings = Settings(contract=contract)
    with LedgerStore(database).deciding() as decision:
        passed, asked_at = [Reason(Rule.BETTER, "Version 1 is better.")], until - timedelta(days=14)
        ask(decision.connection, 1, None, "2025-01", passed, evidence="e", now=asked_at, until=until)
    said = read(settings, until - timedelta(days=1))
    assert (said["waiting_versions", ()], said["waiting_until_timestamp_seconds", ()]) == (1, until.timestamp())
    assert read(settings, until + timedelta(days=1))["waiting_versions", ()] == 0


# How it is given


def test_where_the_database_is_away_it_says_so_and_is_read_again(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [PlatformError("away"), OSError("cut off"), [Sample("readable", 1), Sample("dead_runs", 2)]]

    def reading() -> Sequence[Sample]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    collector = PlatformCollector(reading)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            (only,) = collector.collect()
            assert [(sample.name, sample.value) for sample in only.samples] == [("fraud_platform_readable", 0)]
    assert "away" in caplog.text
    assert [family.samples[0].value for family in collector.collect()] == [1, 2]


def test_many_who_ask_cost_one_reading() -> None:
    readings = []
    collector = PlatformCollector(lambda: [Sample("dead_runs", readings.append(1) or len(readings))], 60)
    assert [next(iter(collector.collect())).samples[0].value for _ in range(3)] == [1, 1, 1]


def test_it_is_served_over_http_and_a_taken_port_is_named() -> None:
    from fraud_assets_tests.worlds import free_port

    port = free_port()
    serve_metrics(lambda: [Sample("dead_runs", 3)], port, "127.0.0.1")
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    assert "fraud_platform_dead_runs 3.0" in answer.text
    with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 cannot be had"):
        serve_metrics(list, port, "127.0.0.1")


def test_a_file_is_replaced_whole_and_says_when_nothing_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new" / "fraud.prom"
    write_file([Sample("readable", 1), Sample("dead_runs", 2)], file)
    assert "fraud_platform_dead_runs 2.0" in file.read_text()
    assert [one.name for one in file.parent.iterdir()] == ["fraud.prom"]
    monkeypatch.setenv("FRAUD_DATABASE_URL", "postgresql://127.0.0.1:9/nobody")
    done = CliRunner().invoke(app, ["metrics", "--output", str(file)])
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert "dead_runs" not in file.read_text()
    assert "fraud_platform_readable 0.0" in file.read_text()
    with pytest.raises(ValueError, match="cannot be written"):
        write_file([], tmp_path / "new" / "fraud.prom" / "x")


# Dashboards and rules


def test_the_rules_fire_where_they_have_to_and_only_there() -> None:
    promtool("test", "rules", "service_test.yml", "platform_test.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    fired = {
        tried["alertname"]
        for file in ("service_test.yml", "platform_test.yml")
        for test in yaml.safe_load((PROMETHEUS / file).read_text())["tests"]
        for tried in test.get("alert_rule_test", [])
        if tried.get("exp_alerts")
    }
    assert fired == set(alerts)
    page = (PROJECT_ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "remedy"}
        assert f"`{name}`" in page


def test_every_expression_of_a_dashboard_can_be_evaluated(tmp_path: Path) -> None:
    rules = [{"record": f"x:{n}", "expr": expression} for n, (_, expression) in enumerate(shown_expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", file)


@pytest.mark.parametrize("name", ["service", "model"])
def test_a_dashboard_can_be_provisioned(name: str) -> None:
    board = json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
    provisioned = PROJECT_ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "fraud.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert board["uid"] == f"fraud-{name}"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
            assert panel["description"]
            assert panel["targets"]
    # None lies over another.
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))


def test_names_are_found_in_expressions() -> None:
    found = names_in('sum by (le) (rate(fraud_scorer_score_bucket{le="up"}[5m])) / on () up - fraud_scorer:x:1h')
    assert found == {"fraud_scorer_score_bucket", "up", "fraud_scorer:x:1h"}


def test_what_is_read_of_scores_are_columns_of_their_tables(simulator_contract: Contract) -> None:
    columns = set(TABLES["model_performance"](simulator_contract).schema.names)
    assert set(REALISED.values()) <= columns
    row = dict.fromkeys(columns, 1.0) | {"model_version": 3, "segment": "all", "average_precision_low": None}
    found = list(realised_samples([row, row | {"segment": "date"}], datetime(2025, 5, 1, tzinfo=UTC)))
    assert {one.metric for one in found} == {*REALISED, "realised_month_end_timestamp_seconds"} - {
        "realised_average_precision_low"
    }
    assert {tuple(one.labels.values()) for one in found} == {(), ("3",)}
    skewed = [{"model_version": 3, "skewed_share": share} for share in (0.1, 0.3, None)]
    assert [(one.labels["model_version"], one.value) for one in skew_samples(skewed)] == [("3", 0.3)]
