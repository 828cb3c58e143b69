"""The services of docker-compose.yml together, as processes: from empty databases to a served model, and killed.

What Docker itself does (images, networks, limits, read-only roots) is not shown here; see `composed.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from fraud_assets_tests.browser import wait
from fraud_assets_tests.test_dagster_ui import BACKFILL, BACKFILL_STATUS

if TYPE_CHECKING:
    from fraud_assets_tests.composed import Composed

pytest_plugins = ["fraud_assets_tests.worlds"]

PLATFORM = ("postgres", "prepare", "mlflow", "dagster-code", "dagster-webserver", "dagster-daemon")
MONTHS = ("2025-01", "2025-02", "2025-03")
GIVEN = {
    "FRAUD_SIMULATOR_CUSTOMERS": "300",
    "FRAUD_SIMULATOR_TERMINALS": "600",
    "FRAUD_FAMILIES": "logistic_regression",
    "FRAUD_WORKERS": "1",
    "FIRST_RUN_TO": MONTHS[-1],
}
COLUMNS = ("transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount", "merchant_segment")
ROWS = f"SELECT {', '.join(COLUMNS)} FROM raw_transactions ORDER BY event_timestamp DESC, transaction_id LIMIT 20"

NEWEST = """
query Newest($asset: AssetKeyInput!) {
  assetOrError(assetKey: $asset) { ... on Asset {
    assetMaterializations(limit: 1) { metadataEntries { label ... on UrlMetadataEntry { url } } }
  } }
}
"""


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    """All services after a first run; the volumes were empty before."""
    from fraud_assets_tests.composed import Composed
    from fraud_assets_tests.worlds import new_home

    if shutil.which("prometheus") is None:
        assert not os.environ.get("CI"), "prometheus is missing; .ci/run installs it"
        pytest.skip("prometheus is missing: apt-get install prometheus")
    set_up = Composed(new_home(), **GIVEN)
    try:
        set_up.up(*PLATFORM)
        set_up.up("first-run")
        key = set_up.execute("dagster-code", "fraud", "keys", "add", "prometheus", "--role", "decide", "--json")
        (set_up.folder / "secrets" / "metrics_key").write_text(json.loads(key.stdout)["key"], encoding="utf-8")
        set_up.give_secrets("prometheus")
        set_up.up("scoring", "metrics", "prometheus")
        yield set_up
    finally:
        set_up.kill()
        shutil.rmtree(set_up.folder)


def graphql(composed: Composed, query: str, **variables: Any) -> dict[str, Any]:
    """The data of an answer of Dagster's webserver."""
    asked = {"query": query, "variables": variables}
    answer = httpx.post(composed.url("dagster-webserver", "/graphql"), json=asked, timeout=30, trust_env=False).json()
    assert "errors" not in answer, answer
    return dict(answer["data"])


def score(composed: Composed) -> list[dict[str, Any]]:
    """What the service answers to whoever has the key that the first run made."""
    key = next(line for line in composed.log("first-run").read_text().splitlines() if line.startswith("fraud_"))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in composed.query(ROWS)]
    asked = [row | {"event_timestamp": row["event_timestamp"].isoformat()} for row in rows]
    address, header = composed.url("scoring", "/v1/score"), {"Authorization": f"Bearer {key}"}
    assert httpx.post(address, json={"transactions": asked}, trust_env=False).status_code == 401
    answer = httpx.post(address, json={"transactions": asked}, headers=header, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def registered(composed: Composed) -> dict[str, str]:
    """The versions by alias, as MLflow's server says."""
    given = {"trust_env": False, "timeout": 30}
    address = composed.url("mlflow", "/api/2.0/mlflow/registered-models/search")
    (model,) = httpx.get(address, **given).json()["registered_models"]  # type: ignore[arg-type]
    return {one["alias"]: one["version"] for one in model["aliases"]}


def targets(composed: Composed) -> dict[str, str]:
    """The health of what Prometheus asks."""
    found = httpx.get(composed.url("prometheus", "/api/v1/targets"), trust_env=False).json()["data"]["activeTargets"]
    return {one["labels"]["job"]: one["health"] for one in found}


def status(composed: Composed) -> dict[str, Any]:
    """`fraud status` in the container of the code location."""
    done = composed.execute("dagster-code", "fraud", "status", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_from_empty_databases_a_model_is_promoted_registered_and_served(composed: Composed) -> None:
    said = status(composed)
    version = said["champion"]["version"]
    assert registered(composed)["champion"] == str(version)
    answers = score(composed)
    assert len(answers) == 20
    assert {one["model_version"] for one in answers} == {version}
    # The files went through MLflow's server into its volume, and none into the platform's home.
    assert list((composed.folder / "volumes" / "artifacts").rglob("model.onnx"))
    assert not list((composed.folder / "volumes" / "home").rglob("mlflow*/**/model.onnx"))
    # Dagster's link to it names the server as a browser does.
    (made,) = graphql(composed, NEWEST, asset={"path": ["champion"]})["assetOrError"]["assetMaterializations"]
    (link,) = [one["url"] for one in made["metadataEntries"] if one["label"] == "model_card"]
    assert link.startswith("http://localhost:5001/#/experiments/")


def test_a_run_goes_from_the_webserver_over_queue_and_daemon_into_the_code_location(composed: Composed) -> None:
    asked = {"assetSelection": [{"path": ["fraud_labels"]}], "partitionNames": [MONTHS[0]]}
    launched = graphql(composed, BACKFILL, params=asked)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def ended() -> dict[str, Any] | None:
        now = graphql(composed, BACKFILL_STATUS, id=launched["backfillId"])["partitionBackfillOrError"]
        return now if now["status"] not in ("REQUESTED", "COMPLETING") else None

    found = wait(ended, f"the run\n{composed.log('dagster-code').read_text()}", 180)
    assert [run["status"] for run in found["runs"]] == ["SUCCESS"], composed.log("dagster-code").read_text()


def test_each_user_of_the_database_sees_its_own_tables_and_no_other_s(composed: Composed) -> None:
    for user, own, foreign in (
        ("mlflow", "mlflow.model_versions", ("public.raw_transactions", "public.ledger", "dagster.runs")),
        ("dagster", "dagster.runs", ("public.raw_transactions", "public.ledger", "mlflow.model_versions")),
    ):
        with composed.connect(user) as connection:
            assert connection.execute(f"SELECT count(*) > 0 FROM {own}".encode()).fetchone() == (True,)
            for table in foreign:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(f"SELECT FROM {table}".encode())
            for statement in ("CREATE TABLE public.t ()", "CREATE SCHEMA s", "CREATE ROLE r"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(statement.encode())
        assert composed.query(
            f"SELECT count(*) FROM pg_tables WHERE schemaname = '{user}' AND tableowner <> '{user}'"
        ) == [(0,)]
    may = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    assert composed.query(f"SELECT rolname FROM pg_roles WHERE ({may}) AND rolname NOT LIKE 'pg\\_%'") == [
        ("postgres",)
    ]
    with composed.connect("fraud") as connection:
        for statement in ("CREATE ROLE r", "ALTER ROLE fraud SUPERUSER", "SELECT pg_read_file('/etc/hostname')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement.encode())
    # None may enter with another's password, or see the administrator's database.
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        composed.connect("fraud", composed.password("mlflow"))
    assert composed.query("SELECT has_database_privilege('mlflow', 'postgres', 'CONNECT')") == [(False,)]


def test_a_container_knows_the_passwords_that_it_needs_and_shows_none(composed: Composed) -> None:
    known = {}
    for name in composed.services:
        file = composed.of(name) / "tmp" / "pgpass"
        if file.exists():
            assert file.stat().st_mode & 0o077 == 0
            known[name] = {line.split(":")[3] for line in file.read_text().splitlines()}
    assert known == {
        "prepare": {"fraud", "dagster"}, "dagster-code": {"fraud", "dagster"}, "dagster-daemon": {"fraud", "dagster"},
        "first-run": {"fraud", "dagster"}, "dagster-webserver": {"dagster"}, "mlflow": {"mlflow"},
        "scoring": {"fraud"}, "metrics": {"fraud"},
    }  # fmt: skip
    passwords = [composed.password(name) for name in ("postgres", "fraud", "dagster", "mlflow")]
    assert len(set(passwords)) == 4
    logs = [*(composed.log(name) for name in composed.processes), composed.of("postgres") / "programs.log"]
    shown = [file for file in logs if any(one in file.read_text(errors="replace") for one in passwords)]
    assert shown == []


def test_killed_and_started_again_nothing_is_lost(composed: Composed) -> None:
    from fraud_assets_tests.worlds import digests_of

    answers = score(composed)
    wait(lambda: composed.query("SELECT count(*) FROM scored_transactions") == [(20,)], "the scores")
    wait(lambda: set(targets(composed).values()) == {"up"}, f"Prometheus\n{composed.log('prometheus').read_text()}")
    assert set(targets(composed)) == {"fraud-service", "fraud-platform"}

    def everything() -> dict[str, Any]:
        said = status(composed)
        return {
            "tables": digests_of(composed.query),
            "aliases": registered(composed),
            "champion": said["champion"]["version"],
            "ledger": composed.execute("dagster-code", "fraud", "ledger", "verify").returncode,
        }

    # The daemon may ask for more at any time.
    newest = composed.query("SELECT max(id) FROM dagster.event_logs")[0][0]
    events = f"SELECT md5(string_agg(event, '' ORDER BY id)) FROM dagster.event_logs WHERE id <= {newest}"
    runs, logged = (
        set(composed.query("SELECT run_id FROM dagster.runs WHERE status = 'SUCCESS'")),
        composed.query(events),
    )
    before = everything()
    assert before["ledger"] == 0
    # What runs once is not started again with the machine.
    names = [name for name in composed.processes if composed.services[name]["restart"] != "no"]
    composed.kill()
    composed.up(*names)
    assert everything() == before
    assert composed.query(events) == logged
    assert runs <= set(composed.query("SELECT run_id FROM dagster.runs WHERE status = 'SUCCESS'"))
    assert score(composed) == answers
    wait(lambda: set(targets(composed).values()) == {"up"}, f"Prometheus\n{composed.log('prometheus').read_text()}")


def test_a_restore_leaves_each_service_what_is_its_own_and_none_is_started_again(composed: Composed) -> None:
    from fraud_assets_tests.worlds import digests_of

    backups = composed.here("dagster-code", "/backups")
    answers, versions, tables = score(composed), registered(composed), digests_of(composed.query)
    made = composed.execute("dagster-code", "fraud", "backup", backups)
    assert made.returncode == 0, made.stderr
    with composed.connect("postgres") as administrator:
        administrator.execute("CREATE ROLE reader")
    with composed.connect("fraud") as connection:
        connection.execute("GRANT SELECT ON champion TO reader")
        connection.execute("DELETE FROM scored_transactions")
    with composed.connect("mlflow") as connection:
        connection.execute("DELETE FROM mlflow.registered_model_aliases")
    done = composed.execute("dagster-code", "fraud", "restore", "--force", "--json", backups)
    assert done.returncode == 0, done.stderr
    (note,) = json.loads(done.stdout)["notes"]
    assert note.startswith("reader had rights on tables in public")
    assert composed.query(
        "SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE nspname IN ('dagster', 'mlflow') AND (relowner::regrole::text <> nspname OR nspowner <> relowner)"
    ) == []  # fmt: skip
    assert digests_of(composed.query) == tables
    assert wait(lambda: registered(composed) == versions, "MLflow")
    graphql(composed, "{ runsOrError { ... on Runs { results { runId } } } }")
    assert score(composed) == answers
    assert [name for name, one in composed.processes.items() if one.poll() not in (None, 0)] == []


def test_for_other_passwords_and_owners_the_roles_are_made_again(composed: Composed) -> None:
    answers = score(composed)
    script = composed.of("postgres") / "deploy" / "postgres" / "roles.sql"
    owned = "SELECT schemaname, count(*) FROM pg_tables WHERE schemaname = tableowner GROUP BY 1 ORDER BY 1"
    before = composed.query(owned)
    assert [name for name, _ in before] == ["dagster", "mlflow"]
    # As pg_restore leaves it: all of it is the platform's.
    with composed.connect("fraud") as connection:
        for schema, table in connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('dagster', 'mlflow')"
        ).fetchall():
            connection.execute(f"ALTER TABLE {schema}.{table} OWNER TO fraud".encode())
        connection.execute("ALTER SCHEMA mlflow OWNER TO fraud")
    with composed.connect("mlflow") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT FROM mlflow.model_versions")
    changed = "a new one, with ' and \\"
    (composed.of("postgres") / "secrets" / "mlflow_password").write_text(changed)
    composed.run_sql(script)
    assert composed.query(owned) == before
    with composed.connect("mlflow", changed) as connection:
        connection.execute("SELECT FROM mlflow.model_versions")
    with pytest.raises(psycopg.OperationalError):
        composed.connect("mlflow", composed.password("mlflow"))
    assert score(composed) == answers
