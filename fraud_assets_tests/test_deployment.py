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

from fraud_assets.adapters.postgres.migrations.versions.up_to_0009.r0001_baseline import STATEMENTS
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
DEV = {"mail", "first-run"}


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
    assert [line for line in lines if line and not line.startswith("#")] == []


# --- docker-compose.yml -------------------------------------------------------------------------------------


def test_compose_file_keeps_to_the_compose_specification() -> None:
    _validate("vendor.compose-spec", COMPOSE_FILE)


def test_docker_compose_accepts_the_file() -> None:
    probe = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("no docker with the compose plugin here; the schema is checked all the same")
    command = ["docker", "compose", "--file", str(COMPOSE_FILE), "config", "--quiet"]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
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
    assert {other for other, _ in waits} >= ONCE - DEV


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
    assert SERVICES["postgres"]["volumes"][-1] == "postgres:/var/lib/postgresql"


def test_the_image_of_postgres_makes_the_roles_when_its_volume_is_empty() -> None:
    (script,) = SERVICES["postgres"]["volumes"][:-1]
    source, target, mode = script.split(":")
    assert (target, mode) == (f"/docker-entrypoint-initdb.d/{Path(source).name}", "ro")
    # The image runs files of these kinds only, and a shell script otherwise than psql does.
    assert source.endswith(".sql")


@pytest.mark.parametrize("name", OURS)
def test_a_command_and_a_health_check_name_programs_that_the_lock_installs(name: str) -> None:
    check = SERVICES[name].get("healthcheck", {"test": ["CMD", "python"]})["test"][1:]
    check = check[2:] if check[:2] == ["sh", "deploy/with_dagster_home.sh"] else check
    program, *words = SERVICES[name]["command"]
    # A shell's lines begin with programs, or with what the shell has itself.
    first = {line.split()[0] for line in words[-1].splitlines()} - {"set"} if program == "sh" else {program}
    for program in (*first, check[0]):
        assert (PROGRAMS / program).is_file(), program


@pytest.mark.parametrize("name", OURS)
def test_a_program_in_a_command_or_a_health_check_can_be_read(name: str) -> None:
    for words in (SERVICES[name]["command"], SERVICES[name].get("healthcheck", {"test": []})["test"]):
        if words[:2] == ["sh", "-c"]:
            subprocess.run(["sh", "-n"], input=words[2].replace("$$", "$"), text=True, check=True)
        elif "-c" in words:
            compile(words[words.index("-c") + 1], name, "exec")


@pytest.mark.parametrize("name", OURS)
def test_every_setting_but_a_port_reaches_every_container(name: str) -> None:
    given = {key for key in SERVICES[name]["environment"] if key.startswith("FRAUD_")}
    assert given == {f"FRAUD_{field.upper()}" for field in set(Settings.model_fields) - PORT_SETTINGS}


@pytest.mark.parametrize("name", OURS)
def test_a_setting_comes_from_the_environment_or_belongs_to_the_containers(name: str) -> None:
    fixed = {"FRAUD_HOME", "FRAUD_DATABASE_URL", "FRAUD_DAGSTER_URL", "FRAUD_MLFLOW_URI"}
    # The address at which the port is published, see below.
    people = {"FRAUD_MLFLOW_UI_URL": f"http://localhost:{Settings.model_fields['mlflow_port'].default}"}
    for key, value in SERVICES[name]["environment"].items():
        if key.startswith("FRAUD_") and key not in fixed:
            assert value == f"${{{key}:-{people.get(key, '')}}}"


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


@pytest.mark.parametrize("name", sorted(MONITORING | DEV))
def test_what_not_everybody_needs_is_asked_for_by_name(name: str) -> None:
    assert SERVICES[name]["profiles"] == (["dev"] if name in DEV else ["monitoring"])
    # What is started without the profile waits for nothing that is not.
    always = {one for one in SERVICES if "profiles" not in SERVICES[one]}
    assert not {other for one in always for other in SERVICES[one].get("depends_on", {})} - always


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_may_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory"}
    # Docker refuses a limit of more cores than the machine has; a small one has two.
    assert float(limits["cpus"]) <= 2
    # Ours has its user in the image.
    assert name in OURS or not service["user"].startswith("0")


@pytest.mark.parametrize("name", OURS)
def test_what_ours_writes_outside_of_volumes_is_forgotten(name: str) -> None:
    assert SERVICES[name]["tmpfs"] == ["/tmp", "/home/fraud"]
    environment = SERVICES[name]["environment"]
    assert environment["PGPASSFILE"].startswith("/tmp/")
    assert environment["XDG_CACHE_HOME"].startswith(environment["FRAUD_HOME"] + "/")


def test_what_is_mounted_from_the_project_is_there() -> None:
    sources = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    for source in {source for source in sources if source.startswith(".")}:
        assert (PROJECT_ROOT / source).exists(), source
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert {name: one["file"] for name, one in COMPOSE["secrets"].items()} == {
        name: f"${{FRAUD_SECRETS:-./secrets}}/{name}" for name in used
    }
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


def test_no_password_is_written_down_or_in_the_environment() -> None:
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    assert not re.search(r"PGPASSWORD|POSTGRES_PASSWORD(?!_FILE: /run/secrets/)|://\w+:[^/\s@?]+@", text)
    # A container of ours has a user's password where it may be that user.
    users = {"fraud_password", "dagster_password", "mlflow_password"}
    given = {name: {one.removesuffix("_password") for one in {*SERVICES[name]["secrets"]} & users} for name in OURS}
    assert (
        {name for name in OURS if "mlflow" in given[name]}
        == {"mlflow"}
        == {*OURS} - {name for name in OURS if given[name] & {"fraud", "dagster"}}
    )
    # Neither shows people's rows by itself.
    assert given["dagster-webserver"] == {"dagster"}
    assert set(SERVICES["postgres"]["secrets"]) == users | {"postgres_password"}


def test_passwords_are_made_once_and_those_that_are_there_stay(tmp_path: Path) -> None:
    def make() -> dict[str, str]:
        command = ["sh", str(PROJECT_ROOT / "deploy" / "make_secrets.sh")]
        environment = os.environ | {"FRAUD_SECRETS": str(tmp_path / "secrets")}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}

    made = make()
    # The key is made by a platform that runs.
    assert set(made) == set(COMPOSE["secrets"]) - {"metrics_key"}
    assert len(set(made.values())) == len(made)
    assert all(len(one) == 48 for one in made.values())
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    (tmp_path / "secrets" / "mlflow_password").write_text("of my own")
    (tmp_path / "secrets" / "dagster_password").unlink()
    again = make()
    assert {name for name in made if made[name] != again[name]} == {"mlflow_password", "dagster_password"}
    assert again["mlflow_password"] == "of my own"


@pytest.mark.parametrize(
    "password", ["plain", "with: colons: and \\ backslashes\\", "$HOME `id` 'quoted' \"twice\" %s"]
)
def test_a_password_reaches_libpq_as_it_is(tmp_path: Path, password: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "fraud_password").write_text(f"{password}\n")
    script = (PROJECT_ROOT / "deploy" / "with_dagster_home.sh").read_text(encoding="utf-8")
    (tmp_path / "entrypoint.sh").write_text(script.replace("/run/secrets", str(tmp_path / "secrets")))
    environment = {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "PGPASSFILE": str(tmp_path / "pgpass")}
    subprocess.run(["sh", str(tmp_path / "entrypoint.sh"), "true"], cwd=PROJECT_ROOT, env=environment, check=True)
    assert (tmp_path / "pgpass").stat().st_mode & 0o077 == 0
    # What libpq would take for it.
    (line,) = (tmp_path / "pgpass").read_text().splitlines()
    fields = re.split(r"(?<!\\)(?:\\\\)*:", line, maxsplit=4)
    assert fields[:4] == ["*", "*", "*", "fraud"]
    assert re.sub(r"\\(.)", r"\1", fields[4]) == password


def test_the_urls_lead_to_the_services() -> None:
    environment = SERVICES["prepare"]["environment"]
    roles = (PROJECT_ROOT / "deploy" / "postgres" / "roles.sql").read_text(encoding="utf-8")
    urls = [
        environment["FRAUD_DATABASE_URL"],
        environment["FRAUD_DAGSTER_URL"],
        _option("mlflow", "--backend-store-uri"),
    ]
    for url, user in zip(urls, ("fraud", "dagster", "mlflow"), strict=True):
        parts = urlsplit(url)
        assert (parts.hostname, parts.port, parts.path) == ("postgres", 5432, "/fraud")
        assert (parts.username, parts.password) == (user, None)
        assert f"ALTER ROLE {user} LOGIN" in roles
    assert "CREATE DATABASE fraud OWNER fraud" in roles
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
