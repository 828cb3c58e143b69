"""The alert sensor on a real instance in Postgres: which of all that happened it tells, and how often."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from typer.testing import CliRunner

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.postgres.database import Database, open_database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.cli import app
from fraud_assets.core.intake.accept import IntakeError
from fraud_assets.core.reasons import Rule
from fraud_assets.defs.alerts import alerts
from fraud_assets.defs.resources import Platform
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.alerts import REASONS
from fraud_assets_tests.sentences import because

if TYPE_CHECKING:
    from fraud_assets_tests.inboxes import Inbox

pytest_plugins = ["fraud_assets_tests.worlds", "fraud_assets_tests.inboxes"]

MONTHS = dg.StaticPartitionsDefinition(["2025-02", "2025-03", "2025-04"])


@dg.asset(partitions_def=MONTHS)
def refused() -> None:
    """A month that its contract refuses."""
    raise IntakeError("cards.csv: 9 of 10 rows break contract 'alerting'")


@dg.asset(partitions_def=MONTHS)
def broken() -> None:
    """A failure of the platform's own."""
    raise RuntimeError("no space left, at postgresql://fraud:hunter2@db/fraud")


JOB = dg.Definitions(assets=[refused, broken]).resolve_implicit_global_asset_job_def()


# What once stood between reasons, in one of them.
DOUBLED = "Amounts doubled; - or so"


class World:
    """Things happen in it, and the sensor ticks."""

    def __init__(self, instance: dg.DagsterInstance, database: Database) -> None:
        self.instance, self.database, self.cursor = instance, database, None

    def report(self, month: str, status: str, digest: str) -> None:
        metadata = {
            "drift_status": status, "digest": digest, "reasons": dg.MetadataValue.md("- For people."),
            REASONS: dg.MetadataValue.json([one.to_dict() for one in because(f"{DOUBLED}.", rule=Rule.COVARIATE)]),
        }  # fmt: skip
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization("drift_report", partition=month, metadata=metadata)
        )

    def count(self, month: str, delivered: int, stored: int, quarantined: int) -> None:
        rows = {"delivered": delivered, "raw_transactions": stored, "quarantined_transactions": quarantined}
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey("raw_transactions"),
                check_name="nothing_lost",
                passed=delivered == stored + quarantined,
                metadata={"rows": {month: rows}},
            )
        )

    def fail(self, asset: str, month: str) -> str:
        done = JOB.execute_in_process(
            partition_key=month, instance=self.instance, asset_selection=[dg.AssetKey(asset)], raise_on_error=False
        )
        return done.run_id

    def tick(self, *, keep_cursor: bool = True) -> str:
        """One tick; without its cursor as when the daemon dies before it is stored."""
        [sensor] = alerts().sensors or []
        assert isinstance(sensor, dg.SensorDefinition)
        resources = {"platform": Platform(settings=Settings())}
        with dg.build_sensor_context(self.instance, self.cursor, resources=resources) as context:
            data = sensor.evaluate_tick(context)
        if keep_cursor:
            self.cursor = data.cursor
        assert not data.run_requests
        return str(data.skip_message)


@pytest.fixture
def happening(
    quick_server: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, web: Inbox
) -> Iterator[World]:
    contract = tmp_path_factory.mktemp("alerting") / "alerting.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", "name: alerting"), encoding="utf-8")
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))
    monkeypatch.setenv("FRAUD_ALERT_URLS", f"json://127.0.0.1:{web.port}")
    monkeypatch.setenv("FRAUD_UI_URL", "https://dagster.example.com/")
    database = open_database(Settings(), writing=True)
    with open_instance(Settings()) as instance:
        yield World(instance, database)
        instance.run_storage.wipe()
        instance.event_log_storage.wipe()
    with database.session() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("TRUNCATE alerts, alert_attempts, ledger, breaker_events")


def test_an_open_breaker_is_told_once_also_by_a_cursor_from_before_there_was_one(happening: World, web: Inbox) -> None:
    happening.tick()
    happening.cursor = " ".join(str(happening.cursor).split()[:2])
    with happening.database.session() as connection:
        connection.execute(
            "INSERT INTO breaker_events (event, model_version, mode, n, n_held, said, actor) VALUES "
            "('opened', 7, 'previous', 300, 200, '200 of 300 were held', 'service'), "
            "('closed', 7, 'previous', NULL, NULL, 'mended', 'ada')"
        )
    happening.tick()
    assert happening.tick() == "0 new facts, nothing due"
    [(subject, body)] = web.messages
    assert subject == "[fraud] the breaker is open"
    assert "200 of 300 were held. The champion before answers, where there is one. `fraud breaker close`" in body


def test_what_happened_is_told_once_with_its_links_and_nothing_else_is(happening: World, web: Inbox) -> None:
    happening.tick()
    refused_run = happening.fail("refused", "2025-04")
    happening.fail("refused", "2025-04")
    failed_run = happening.fail("broken", "2025-03")
    happening.report("2025-02", "WATCH", "a")
    happening.report("2025-03", "DRIFT", "b")
    happening.report("2025-03", "DRIFT", "b")
    happening.count("2025-02", delivered=1000, stored=999, quarantined=1)
    happening.count("2025-03", delivered=1000, stored=960, quarantined=40)
    ledger = LedgerStore(happening.database)
    ledger.record("validated", 2, "2025-02", because("AP 0.70", "against 0.66."), actor="dagster run 77")
    ledger.record("refused", 3, "2025-03", because("AP 0.60", "against 0.66."), actor="dagster run 78")
    happening.tick(keep_cursor=False)
    happening.tick()
    assert happening.tick() == "0 new facts, nothing due"
    [(subject, body)] = web.messages
    assert subject.startswith("[fraud] 5 alerts: ")
    links = [line for line in body.splitlines() if line.startswith("https://")]
    ui = "https://dagster.example.com"
    assert sorted(links) == sorted(
        [
            f"{ui}/runs/{refused_run}",
            f"{ui}/runs/{failed_run}",
            f"{ui}/assets/drift_report?view=partitions&partition=2025-03",
            f"{ui}/assets/raw_transactions?view=partitions&partition=2025-03",
            f"{ui}/runs/78",
        ]
    )
    for said in (
        "The data was refused, and is not used: cards.csv: 9 of 10 rows break contract 'alerting'",
        "A run of the asset graph for 2025-03 failed. broken: no space left, at postgresql://fraud:***@db/fraud",
        f"{DOUBLED}.",
        "40 of 1,000 rows of 2025-03 (4.0 %)",
        "Model version 3 does not go live. AP 0.60 against 0.66.",
    ):
        assert body.count(said) == 1, said


def test_of_what_lies_before_it_was_first_turned_on_only_the_newest_month_s_drift_is_told(
    happening: World, web: Inbox
) -> None:
    happening.report("2025-03", "DRIFT", "a")
    happening.report("2025-04", "DRIFT", "b")
    happening.fail("broken", "2025-03")
    LedgerStore(happening.database).record("refused", 3, "2025-03", because("AP 0.60", "against 0.66."), actor="alice")
    happening.tick()
    happening.tick()
    assert [subject for subject, _ in web.messages] == ["[fraud] drift in 2025-04"]


def test_a_report_of_an_earlier_version_is_told_with_its_sentences_as_they_are(happening: World, web: Inbox) -> None:
    reasons = dg.MetadataValue.md("- Amounts doubled.\n- Hours moved.")
    happening.instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "drift_report",
            partition="2025-04",
            metadata={"drift_status": "DRIFT", "blame": "world", "digest": "a", "reasons": reasons},
        )
    )
    happening.tick()
    [(_, body)] = web.messages
    assert "- Amounts doubled. - Hours moved." in body


def test_what_was_open_and_is_so_no_longer_is_not_told(happening: World, web: Inbox) -> None:
    happening.report("2025-04", "DRIFT", "a")
    happening.report("2025-04", "OK", "b")
    happening.tick()
    assert web.messages == []


def test_what_happens_while_the_sensor_is_off_is_told_when_it_is_on_again(happening: World, web: Inbox) -> None:
    happening.tick()
    for number in range(120):
        happening.report(f"{2025 + number // 12}-{number % 12 + 1:02d}", "OK", "a")
    happening.report("2025-04", "DRIFT", "b")
    happening.tick()
    assert [subject for subject, _ in web.messages] == ["[fraud] drift in 2025-04"]


def test_a_dead_channel_fails_neither_the_tick_nor_the_cursor(happening: World, web: Inbox) -> None:
    happening.tick()
    web.alive = False
    happening.report("2025-04", "DRIFT", "a")
    assert "1 alert not taken by json://127.0.0.1" in happening.tick()
    assert happening.tick() == "0 new facts, nothing due"


def test_what_people_report_by_hand_does_not_stop_the_sensor(happening: World, web: Inbox) -> None:
    happening.tick()
    happening.instance.report_runless_asset_event(dg.AssetMaterialization("drift_report"))
    happening.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=dg.AssetKey("raw_transactions"), check_name="nothing_lost", passed=False)
    )
    assert happening.tick() == "0 new facts, nothing due"


def test_without_channels_it_says_so_and_begins_only_when_there_are_some(
    happening: World, web: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("FRAUD_ALERT_URLS")
        happening.fail("broken", "2025-03")
        assert happening.tick() == "FRAUD_ALERT_URLS names no channel"
    happening.tick()
    assert web.messages == []


@pytest.mark.parametrize(("urls", "running"), [("", False), ("json://127.0.0.1", True)])
def test_the_sensor_runs_by_default_where_there_are_channels(
    urls: str, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_ALERT_URLS", urls)
    monkeypatch.setattr("fraud_assets.defs.alerts.SETTINGS", Settings())
    [sensor] = alerts().sensors or []
    assert isinstance(sensor, dg.SensorDefinition)
    assert (sensor.default_status == dg.DefaultSensorStatus.RUNNING) == running


# The command


def test_the_command_lists_what_was_told_and_where_it_stands(happening: World, web: Inbox) -> None:
    happening.report("2025-04", "DRIFT", "a")
    happening.tick()
    [alert] = json.loads(CliRunner().invoke(app, ["alerts", "list", "--json"]).stdout)
    assert (alert["kind"], alert["month"], alert["sentence"]) == ("drift", "2025-04", f"{DOUBLED}.")
    assert [(one["channel"], one["state"]) for one in alert["deliveries"]] == [
        (f"json://127.0.0.1:{web.port}", "delivered")
    ]
    shown = CliRunner().invoke(app, ["alerts", "list"], env={"COLUMNS": "200"}).stdout
    assert f"{DOUBLED}." in shown
    assert f"delivered: json://127.0.0.1:{web.port} at " in shown


def test_the_command_tries_each_channel_and_says_which_failed_and_why(
    web: Inbox, mail: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail.alive = False
    url = f"mailto://127.0.0.1:{mail.port}?from=a@example.com&to=b@example.com"
    monkeypatch.setenv("FRAUD_ALERT_URLS", f"json://127.0.0.1:{web.port} {url}")
    asked = CliRunner().invoke(app, ["alerts", "test"], env={"COLUMNS": "200"})
    assert asked.exit_code == 1
    good, bad = asked.stdout.splitlines()
    assert good.endswith(f"json://127.0.0.1:{web.port}")
    assert f"mailto://127.0.0.1:{mail.port}: " in bad
    assert "451" in bad
    assert [subject for subject, _ in web.messages] == ["[fraud] test"]


def test_the_command_refuses_to_test_no_channel() -> None:
    asked = CliRunner().invoke(app, ["alerts", "test"])
    assert asked.exit_code == 1
    assert "FRAUD_ALERT_URLS names no channel" in asked.stderr
