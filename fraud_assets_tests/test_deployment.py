"""The files that set the platform up elsewhere, against the project they describe.

Nothing here needs Docker. What the containers run is covered by the tests of those programs; here: that the files are
valid, agree with the settings and with each other, and name only what exists.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from fraud_assets.adapters.postgres.migrations.versions.r0001_baseline import STATEMENTS
from fraud_assets.settings import PROJECT_ROOT, Settings

COMPOSE_FILE = PROJECT_ROOT / "docker-compose.yml"
DOCKERFILE = PROJECT_ROOT / "deploy" / "Dockerfile"
WORKFLOW = PROJECT_ROOT / ".github" / "workflows" / "ci.yml"
PROGRAMS = Path(sys.executable).parent

COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
ONCE = {name for name, service in SERVICES.items() if service["restart"] == "no"}
PORT_SETTINGS = {"dagster_port", "mlflow_port", "serve_port"}
OTHERS = {
    "postgres": "postgres",
    "prometheus": "prom/prometheus",
    "grafana": "grafana/grafana",
    "mail": "axllent/mailpit",
}
MONITORING = {"metrics", "prometheus", "grafana"}


def _default_text(value: Any) -> str:
    """A setting's default as an environment variable has it, paths relative to the project."""
    if value is None:
        return ""
    if isinstance(value, Path):
        return value.relative_to(PROJECT_ROOT).as_posix()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _option(service: str, name: str) -> str:
    """The value of a `--name=value` or `--name value` in a service's command."""
    command = SERVICES[service]["command"]
    for position, word in enumerate(command):
        if word == name:
            return str(command[position + 1])
        if word.startswith(f"{name}="):
            return str(word.removeprefix(f"{name}="))
    raise AssertionError(f"{service}'s command has no {name}: {command}")


def _copied() -> list[str]:
    """The sources of the Dockerfile's COPY lines."""
    lines = re.findall(r"^COPY (.+)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def _files_of_the_repository() -> list[Path]:
    """What git tracks, or would after `git add .`."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=True, text=True).stdout
    return [PROJECT_ROOT / name for name in listed.split("\0") if name and (PROJECT_ROOT / name).is_file()]


def _validate(schema: str, file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


# --- Settings -----------------------------------------------------------------------------------------------


def test_env_example_lists_every_setting_once_with_its_meaning_and_its_default() -> None:
    text = (PROJECT_ROOT / ".env.example").read_text(encoding="utf-8")
    listed = re.findall(r"^# (.+)\n# (FRAUD_\w+)=(.*)$", text, re.MULTILINE)
    assert listed == [
        (field.description, f"FRAUD_{name.upper()}", _default_text(field.default))
        for name, field in Settings.model_fields.items()
    ]


def test_env_example_copied_as_it_is_changes_no_setting() -> None:
    lines = (PROJECT_ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["POSTGRES_PASSWORD="]


# --- docker-compose.yml -------------------------------------------------------------------------------------


def test_compose_file_keeps_to_the_compose_specification() -> None:
    _validate("vendor.compose-spec", COMPOSE_FILE)


def test_docker_compose_accepts_the_file() -> None:
    probe = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("no docker with the compose plugin here; the schema is checked all the same")
    command = ["docker", "compose", "--file", str(COMPOSE_FILE), "config", "--quiet"]
    environment = os.environ | {"POSTGRES_PASSWORD": "any"}  # pragma: allowlist secret
    check = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr


def test_the_project_has_one_image() -> None:
    assert {SERVICES[name]["image"] for name in OURS} == {"fraud-assets:local"}
    assert {SERVICES[name]["build"]["dockerfile"] for name in OURS} == {"deploy/Dockerfile"}
    assert {name: SERVICES[name]["image"].split(":")[0] for name in set(SERVICES) - set(OURS)} == OTHERS


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONCE))
def test_a_service_that_keeps_running_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_what_runs_once_is_waited_for_to_the_end_and_the_rest_until_healthy() -> None:
    waits = {
        (other, how["condition"])
        for service in SERVICES.values()
        for other, how in service.get("depends_on", {}).items()
    }
    assert waits == {
        (other, "service_completed_successfully" if other in ONCE else "service_healthy") for other, _ in waits
    }
    assert {other for other, _ in waits} >= ONCE


def test_the_schemas_exist_before_anything_of_ours_starts() -> None:
    def first_ones(name: str) -> set[str]:
        direct = set(SERVICES[name].get("depends_on", {}))
        return direct.union(*(first_ones(other) for other in direct))

    assert {name for name in OURS if "prepare" not in first_ones(name)} == {"prepare"}


def test_named_volumes_are_the_declared_ones() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert {name for name in mounted if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_postgres_18_keeps_its_volume_above_the_folder_of_its_version() -> None:
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


@pytest.mark.parametrize("name", OURS)
def test_a_command_and_a_health_check_name_programs_that_the_lock_installs(name: str) -> None:
    check = SERVICES[name].get("healthcheck", {"test": ["CMD", "python"]})["test"][1:]
    check = check[2:] if check[:2] == ["sh", "deploy/with_dagster_home.sh"] else check
    for program in (SERVICES[name]["command"][0], check[0]):
        assert (PROGRAMS / program).is_file(), program


@pytest.mark.parametrize("name", OURS)
def test_python_in_a_command_or_a_health_check_compiles(name: str) -> None:
    for words in (SERVICES[name]["command"], SERVICES[name].get("healthcheck", {"test": []})["test"]):
        if "-c" in words:
            compile(words[words.index("-c") + 1], name, "exec")


@pytest.mark.parametrize("name", OURS)
def test_every_setting_but_a_port_reaches_every_container(name: str) -> None:
    given = {key for key in SERVICES[name]["environment"] if key.startswith("FRAUD_")}
    assert given == {f"FRAUD_{field.upper()}" for field in set(Settings.model_fields) - PORT_SETTINGS}


@pytest.mark.parametrize("name", OURS)
def test_a_setting_comes_from_the_environment_or_belongs_to_the_containers(name: str) -> None:
    fixed = {"FRAUD_HOME", "FRAUD_DATABASE_URL", "FRAUD_MLFLOW_URI"}
    for key, value in SERVICES[name]["environment"].items():
        if key.startswith("FRAUD_") and key not in fixed:
            assert value == f"${{{key}:-}}"


@pytest.mark.parametrize(
    ("service", "setting"),
    [("dagster-webserver", "dagster_port"), ("mlflow", "mlflow_port"), ("scoring", "serve_port")],
)
def test_a_port_is_published_to_this_machine_alone_at_the_settings_default(service: str, setting: str) -> None:
    default = Settings.model_fields[setting].default
    inside = _option(service, "--port")
    assert SERVICES[service]["ports"] == [f"127.0.0.1:${{FRAUD_{setting.upper()}:-{default}}}:{inside}"]


def test_no_other_port_is_published() -> None:
    published = {name for name, service in SERVICES.items() if service.get("ports")}
    assert published == {"dagster-webserver", "mlflow", "scoring", "prometheus", "grafana", "mail"}
    for name in ("prometheus", "grafana", "mail"):
        (port,) = SERVICES[name]["ports"]
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("name", sorted(MONITORING | {"mail"}))
def test_what_watches_is_asked_for_by_name_and_may_little(name: str) -> None:
    service = SERVICES[name]
    assert service["profiles"] == (["dev"] if name == "mail" else ["monitoring"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    # Ours has its user in the image.
    assert name in OURS or not service["user"].startswith("0")
    # What is started without the profile waits for nothing that is not.
    assert (
        not {other for one in set(SERVICES) - MONITORING for other in SERVICES[one].get("depends_on", {})} & MONITORING
    )


def test_what_is_mounted_from_the_project_is_there() -> None:
    sources = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    for source in {source for source in sources if source.startswith(".")}:
        assert (PROJECT_ROOT / source).exists(), source
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_password"


def test_prometheus_asks_the_services_where_they_listen() -> None:
    asked = yaml.safe_load((PROJECT_ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in asked["scrape_configs"]}
    assert targets == {
        "fraud-service": [f"scoring:{_option('scoring', '--port')}"],
        "fraud-platform": [f"metrics:{_option('metrics', '--serve')}"],
    }
    (credentials,) = [job["authorization"] for job in asked["scrape_configs"] if "authorization" in job]
    assert credentials == {"credentials_file": "/run/secrets/metrics_key"}
    assert SERVICES["prometheus"]["secrets"] == ["metrics_key"]
    (source,) = yaml.safe_load((PROJECT_ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"


def test_nothing_starts_without_a_password_and_none_is_written_down() -> None:
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    assert re.findall(r"\$\{POSTGRES_PASSWORD(..)", text) == [":?"]
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    for name in OURS:
        assert SERVICES[name]["environment"]["PGPASSWORD"] == SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]
        assert urlsplit(SERVICES[name]["environment"]["FRAUD_DATABASE_URL"]).password is None


def test_the_urls_lead_to_the_services() -> None:
    postgres = SERVICES["postgres"]["environment"]
    environment = SERVICES["prepare"]["environment"]
    for url in (environment["FRAUD_DATABASE_URL"], _option("mlflow", "--backend-store-uri")):
        parts = urlsplit(url)
        assert (parts.hostname, parts.port) == ("postgres", 5432)
        assert (parts.username, parts.path) == (postgres["POSTGRES_USER"], f"/{postgres['POSTGRES_DB']}")
    mlflow = urlsplit(environment["FRAUD_MLFLOW_URI"])
    assert (mlflow.hostname, str(mlflow.port)) == ("mlflow", _option("mlflow", "--port"))


def test_mlflow_keeps_its_tables_in_its_own_schema() -> None:
    query = parse_qs(urlsplit(_option("mlflow", "--backend-store-uri")).query)
    assert query == {"options": ["-csearch_path=mlflow"]}
    assert "CREATE SCHEMA IF NOT EXISTS mlflow" in STATEMENTS


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("mlflow:5001", True), ("localhost:5001", True), ("127.0.0.1:8080", True), ("mlflow.example.com:5001", False)],
)
def test_mlflow_answers_the_containers_and_this_machines_browser_only(host: str, allowed: bool) -> None:
    # As mlflow.server.security_utils.is_allowed_host_header does, which cannot be imported without the server.
    patterns = _option("mlflow", "--allowed-hosts").split(",")
    assert any(fnmatch.fnmatch(host, pattern) for pattern in patterns) is allowed


def test_mlflow_serves_the_artifacts_of_its_volume() -> None:
    assert _option("mlflow", "--artifacts-destination") == "file:///artifacts"
    assert SERVICES["mlflow"]["volumes"] == ["artifacts:/artifacts"]


def test_the_code_location_is_found_under_the_name_it_has_everywhere() -> None:
    ((kind, server),) = yaml.safe_load((PROJECT_ROOT / "deploy/workspace.yaml").read_text())["load_from"][0].items()
    ((_, module),) = yaml.safe_load((PROJECT_ROOT / "workspace.yaml").read_text())["load_from"][0].items()
    assert kind == "grpc_server"
    assert server["location_name"] == module["location_name"]
    assert _option(server["host"], "--module-name") == module["module_name"]
    assert _option(server["host"], "--port") == str(server["port"])


@pytest.mark.parametrize("name", ["dagster-webserver", "dagster-daemon"])
def test_dagsters_programs_read_the_workspace_of_the_containers(name: str) -> None:
    assert _option(name, "--workspace") == "deploy/workspace.yaml"
    assert set(SERVICES[name]["depends_on"]) == {"dagster-code"}


# --- Image --------------------------------------------------------------------------------------------------


def test_everything_the_image_copies_exists() -> None:
    assert [source for source in _copied() if not (PROJECT_ROOT / source).exists()] == []


def test_the_build_context_is_what_the_image_copies_and_no_more() -> None:
    rules = (PROJECT_ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(_copied())


def test_the_image_has_what_the_containers_name() -> None:
    named = {"deploy/with_dagster_home.sh", "deploy/workspace.yaml"}
    # Read by the project beside its package.
    read = {"dagster.yaml", "contracts", "bentos", "fraud_assets"}
    assert named | read <= set(_copied())


def test_the_image_runs_as_a_user_and_installs_only_what_the_lock_hashes() -> None:
    instructions = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text(encoding="utf-8"))
    assert re.findall(r"^USER (\w+)$", instructions, re.MULTILINE) == ["fraud"]
    locked, project = re.findall(r"pip install (.+)$", instructions, re.MULTILINE)
    assert "--require-hashes" in locked
    assert "--requirement requirements.lock" in locked
    assert "--no-deps" in project
    # Else pip would fetch setuptools for the build, without a hash.
    assert "--no-build-isolation" in project
    assert re.search(r"^setuptools==", (PROJECT_ROOT / "requirements.lock").read_text(), re.MULTILINE)


def test_the_image_owns_the_folders_under_the_volumes() -> None:
    mounted = {volume.split(":")[1] for name in OURS for volume in SERVICES[name]["volumes"]}
    (owned,) = re.findall(
        r"install --directory --owner fraud --group fraud (.+)$", DOCKERFILE.read_text(), re.MULTILINE
    )
    assert set(owned.split()) == mounted


@pytest.mark.parametrize("contract", ["simulator", "handbook"])
def test_dagster_home_in_a_container_is_the_one_of_the_contract(tmp_path: Path, contract: str) -> None:
    environment = os.environ | {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "FRAUD_HOME": str(tmp_path),
        "FRAUD_CONTRACT": f"contracts/{contract}.yaml",
    }
    command = ["sh", "deploy/with_dagster_home.sh", "printenv", "DAGSTER_HOME"]
    ran = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=True)
    settings = Settings(home=tmp_path, contract=PROJECT_ROOT / "contracts" / f"{contract}.yaml")
    assert ran.stdout.strip() == str(settings.dagster_home)


# --- Checks -------------------------------------------------------------------------------------------------


def test_the_workflow_keeps_to_the_schema_of_workflows() -> None:
    _validate("vendor.github-workflows", WORKFLOW)


def test_the_workflow_runs_what_a_change_must_pass() -> None:
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["test"]
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]
    assert (PROJECT_ROOT / ".ci" / "run").is_file()


def test_the_workflow_tests_the_oldest_python_and_the_images() -> None:
    tested = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    (oldest,) = re.findall(r'^requires-python = ">=(.+)"$', (PROJECT_ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    (image,) = re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE.read_text(), re.MULTILINE)
    assert tested == [oldest, image]


def test_the_workflow_may_read_only_and_runs_pinned_actions() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    actions = [step for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert actions
    for step in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
        assert step["with"]["persist-credentials"] is False


def test_every_hook_can_run() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", str(PROJECT_ROOT / ".pre-commit-config.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert check.returncode == 0, check.stdout + check.stderr
    (repository,) = yaml.safe_load((PROJECT_ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repository["hooks"]:
        program = Path(hook["entry"].split()[0])
        if hook["language"] == "system":
            assert program.parent == Path(".venv/bin")
            assert (PROGRAMS / program.name).is_file(), hook["id"]
        else:
            assert all("==" in package for package in hook["additional_dependencies"]), hook["id"]


def test_no_file_says_where_packages_come_from() -> None:
    # A place is the choice of whoever installs; a lock that names one fails for the others.
    place = re.compile(
        r"(index-url|find-links|registry)[\"']?\s*[=:\s]\s*[\"']?https?://"  # an option or a setting
        r"|^\[\[?tool\.uv\.(index|pip)"
        r"|https?://\S+/simple/?(\s|$)"
        r"|https?://\S+\.(whl|tar\.gz|tgz)\b",
        re.MULTILINE,
    )
    files = _files_of_the_repository()
    assert PROJECT_ROOT / "requirements.lock" in files
    found = [
        (file.relative_to(PROJECT_ROOT).as_posix(), match.group(0))
        for file in files
        if (match := place.search(file.read_text(encoding="utf-8", errors="replace")))
    ]
    assert found == []


def test_the_license_is_the_one_that_the_project_declares() -> None:
    assert 'license = "Apache-2.0"' in (PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = (PROJECT_ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
