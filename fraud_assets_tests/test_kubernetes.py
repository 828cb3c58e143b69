"""`deploy/kubernetes` against the project, against docker-compose.yml, and against what is known of chart and API.

No cluster and no chart are at hand here. The names of the chart's values were read on 2026-11-30 in dagster-io/dagster:
`helm/dagster/values.schema.json` at commit bdb8547, and for `concurrency` and `maxRuntimeSeconds`, which are newer, the
templates of helm/dagster at commit 99dc34f. That the chart of Dagster's locked version has them still, no test knows.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster_postgres.utils import get_conn_string
from sqlalchemy.engine import make_url

from bentos.fraud_scorer.keys import OPEN
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets_tests.test_deployment import PROGRAMS, SERVICES

FOLDER = PROJECT_ROOT / "deploy" / "kubernetes"
IMAGE = "fraud-assets:kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((FOLDER / "dagster-values.yaml").read_text(encoding="utf-8"))
MANIFESTS = {
    (document["kind"], document["metadata"]["name"]): document
    for file in sorted(FOLDER.glob("*.yaml"))
    if file.name != "dagster-values.yaml"
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
}
SETTINGS: dict[str, str] = MANIFESTS["ConfigMap", "fraud-settings"]["data"]
# Of each kind the fields that are used: a wrong name is not among them. `*` is a list, `{}` a mapping of any names.
PROBE = {"httpGet": {"path", "port"}, "periodSeconds": None, "timeoutSeconds": None, "failureThreshold": None}
SECURE = {"allowPrivilegeEscalation": None, "capabilities": {"drop"}, "readOnlyRootFilesystem": None}
POD_SECURE = {
    **dict.fromkeys(("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup")), "seccompProfile": {"type"},
}  # fmt: skip
ENV = {"*": {"name": None, "value": None, "valueFrom": {"secretKeyRef": {"name", "key"}}}}
ENV_FROM = {"*": {"configMapRef": {"name"}, "secretRef": {"name", "optional"}}}
RESOURCES = {"requests": {"cpu", "memory"}, "limits": {"cpu", "memory"}}
VOLUMES = {"*": {"name": None, "persistentVolumeClaim": {"claimName"}, "emptyDir": {}}}
MOUNTS = {"*": {"name", "mountPath"}}
POD = {
    "metadata": {"labels": {}},
    "spec": {
        **dict.fromkeys(("automountServiceAccountToken", "terminationGracePeriodSeconds", "restartPolicy")),
        "securityContext": POD_SECURE,
        "containers": {
            "*": {
                **dict.fromkeys(("name", "image", "args")), "env": ENV, "envFrom": ENV_FROM,
                "ports": {"*": {"name", "containerPort"}}, "securityContext": SECURE, "resources": RESOURCES,
                **dict.fromkeys(("startupProbe", "livenessProbe", "readinessProbe"), PROBE), "volumeMounts": MOUNTS,
            }
        },
        "volumes": VOLUMES,
    },
}  # fmt: skip
KINDS: dict[str, tuple[str, Any]] = {
    "ConfigMap": ("v1", {"data": {}}),
    "PersistentVolumeClaim": ("v1", {"spec": {"accessModes": None, "resources": {"requests": {"storage"}}}}),
    "Job": ("batch/v1", {"spec": {"backoffLimit": None, "ttlSecondsAfterFinished": None, "template": POD}}),
    "Deployment": (
        "apps/v1",
        {
            "spec": {
                "replicas": None, "selector": {"matchLabels": {}}, "template": POD,
                "strategy": {"type": None, "rollingUpdate": {"maxUnavailable", "maxSurge"}},
            }
        },
    ),
    "Service": ("v1", {"spec": {"selector": {}, "ports": {"*": {"name", "port", "targetPort"}}}}),
    "PodDisruptionBudget": ("policy/v1", {"spec": {"minAvailable": None, "selector": {"matchLabels": {}}}}),
}  # fmt: skip
IMAGE_FIELDS = {"repository", "tag", "pullPolicy"}
CHART_POD = {
    "env": ENV, "volumes": VOLUMES, "volumeMounts": MOUNTS, "podSecurityContext": POD_SECURE, "securityContext": SECURE,
    "resources": RESOURCES, "image": IMAGE_FIELDS,
}  # fmt: skip
CHART = {
    "global": {"postgresqlSecretName"},
    "generatePostgresqlPasswordSecret": None,
    "postgresql": {
        **dict.fromkeys(("enabled", "postgresqlHost", "postgresqlUsername", "postgresqlDatabase")),
        "postgresqlParams": {}, "service": {"port"},
    },
    "rabbitmq": {"enabled"}, "redis": {"enabled"}, "flower": {"enabled"}, "telemetry": {"enabled"},
    "dagster-user-deployments": {
        "enabled": None,
        "enableSubchart": None,
        "deployments": {
            "*": {
                **dict.fromkeys(("name", "dagsterApiGrpcArgs", "port")), "includeConfigInLaunchedRuns": {"enabled"},
                "envConfigMaps": {"*": {"name"}}, **CHART_POD,
            }
        },
    },
    "runLauncher": {
        "type": None,
        "config": {
            "k8sRunLauncher": {
                "imagePullPolicy": None, "failPodOnRunFailure": None, "envConfigMaps": {"*": {"name"}},
                "volumes": VOLUMES, "volumeMounts": MOUNTS,
                "runK8sConfig": {
                    "containerConfig": {"env": ENV, "securityContext": SECURE, "resources": RESOURCES},
                    "podSpecConfig": {"securityContext": POD_SECURE}, "jobSpecConfig": {"ttlSecondsAfterFinished"},
                },
            }
        },
    },
    "concurrency": {
        "enabled": None,
        "pools": {"granularity", "defaultLimit"},
        "runs": {"maxConcurrentRuns", "tagConcurrencyLimits"},
    },
    "computeLogManager": {"type"},
    "dagsterDaemon": {
        "enabled": None,
        "runCoordinator": {
            "enabled": None, "type": None,
            "config": {
                "queuedRunCoordinator": {"maxConcurrentRuns", "tagConcurrencyLimits", "blockOpConcurrencyLimitedRuns"}
            },
        },
        "runMonitoring": {
            "enabled", "startTimeoutSeconds", "maxRuntimeSeconds", "maxResumeRunAttempts", "pollIntervalSeconds",
        },
        **CHART_POD,
    },
    "dagsterWebserver": {
        "replicaCount": None, "service": {"type", "port"},
        "workspace": {"enabled": None, "servers": {"*": {"host", "port", "name"}}}, **CHART_POD,
    },
}  # fmt: skip
CODE = VALUES["dagster-user-deployments"]["deployments"][0]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
PODS = {key: one["spec"]["template"] for key, one in MANIFESTS.items() if key[0] in ("Deployment", "Job")}


def unknown(given: Any, known: Any, place: str = "") -> Iterator[str]:
    """The names in a document that are not among the known ones, each with its place."""
    if known is None or known == {}:
        return
    if isinstance(known, set):
        known = dict.fromkeys(known)
    if "*" in known:
        assert isinstance(given, list), place
        for number, one in enumerate(given):
            yield from unknown(one, known["*"], f"{place}[{number}]")
        return
    assert isinstance(given, Mapping), place
    for name, below in given.items():
        if name not in known:
            yield f"{place}.{name}"
        else:
            yield from unknown(below, known[name], f"{place}.{name}")


def containers() -> dict[str, dict[str, Any]]:
    return {name: pod["spec"]["containers"][0] for (_, name), pod in PODS.items()}


def option(words: list[str], name: str) -> str:
    """The value of a `--name=value` or `--name value`."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    raise AssertionError(f"no {name} in {words}")


# --- Names and forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(MANIFESTS), ids=" ".join)
def test_a_manifest_has_fields_of_its_kind_alone(key: tuple[str, str]) -> None:
    version, fields = KINDS[key[0]]
    manifest = dict(MANIFESTS[key])
    assert (manifest.pop("apiVersion"), manifest.pop("kind")) == (version, key[0])
    assert set(manifest.pop("metadata")) == {"name"}
    assert list(unknown(manifest, fields)) == []


def test_the_values_are_names_of_the_chart() -> None:
    assert list(unknown(VALUES, CHART)) == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"dagsterWebserver": {"replicas": 2}}, ".dagsterWebserver.replicas"),
        ({"dagsterDaemon": {"env": [{"name": "A", "valuefrom": {}}]}}, ".dagsterDaemon.env[0].valuefrom"),
        ({"runLauncher": {"config": {"k8sRunlauncher": {}}}}, ".runLauncher.config.k8sRunlauncher"),
    ],
)
def test_a_name_that_is_wrong_is_found(document: dict[str, Any], said: str) -> None:
    assert list(unknown(document, CHART)) == [said]


@pytest.mark.parametrize("key", sorted(key for key in MANIFESTS if key[0] != "Job"), ids=" ".join)
def test_a_selector_finds_the_pods_of_its_name(key: tuple[str, str]) -> None:
    spec = MANIFESTS[key].get("spec", {})
    if "selector" not in spec:
        assert key[0] in ("ConfigMap", "PersistentVolumeClaim")
        return
    labels = PODS["Deployment", key[1]]["metadata"]["labels"]
    assert spec["selector"].get("matchLabels", spec["selector"]) == labels == {"app": key[1]}


@pytest.mark.parametrize("name", ["mlflow", "scoring"])
def test_ports_are_those_on_which_the_program_listens(name: str) -> None:
    container, service = containers()[name], MANIFESTS["Service", name]["spec"]
    [port] = container["ports"]
    assert str(port["containerPort"]) == option(container["args"], "--port") == option(_composed(name), "--port")
    assert service["ports"] == [{"name": port["name"], "port": port["containerPort"], "targetPort": port["name"]}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]


def test_probes_ask_what_needs_no_key_and_no_host_header() -> None:
    asked = {
        name: {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        for name, container in containers().items()
        if name != "fraud-prepare"
    }
    assert asked["scoring"] == {"startup": "/readyz", "liveness": "/livez", "readiness": "/readyz"}
    assert set(asked["scoring"].values()) <= set(OPEN)
    # MLflow answers any other path only to the names of --allowed-hosts, and a probe names the pod's address.
    source = Path(importlib.metadata.distribution("mlflow").locate_file("mlflow/server/security_utils.py"))  # type: ignore[arg-type]
    [exempt] = re.findall(r"^HEALTH_ENDPOINTS = (\[.*\])$", source.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(asked["mlflow"].values()) == {"/health"} <= set(ast.literal_eval(exempt))


# --- What pods may and get ----------------------------------------------------------------------------------


def _pods() -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Of each pod: its security, that of its container, and what it may use."""
    found = {
        name: (pod["spec"]["securityContext"], one["securityContext"], one["resources"])
        for (_, name), pod in PODS.items()
        for one in pod["spec"]["containers"]
    }
    for name, one in {"code": CODE, "daemon": VALUES["dagsterDaemon"], "webserver": VALUES["dagsterWebserver"]}.items():
        found[name] = (one["podSecurityContext"], one["securityContext"], one["resources"])
    run = LAUNCHER["runK8sConfig"]
    found["run"] = (
        run["podSpecConfig"]["securityContext"],
        run["containerConfig"]["securityContext"],
        run["containerConfig"]["resources"],
    )
    return found


@pytest.mark.parametrize("name", sorted(_pods()))
def test_a_pod_is_the_images_user_and_may_little(name: str) -> None:
    pod, container, resources = _pods()[name]
    [user] = re.findall(r"useradd --uid (\d+)", (PROJECT_ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"))
    assert pod == {
        "runAsNonRoot": True, **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), int(user)),
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}


def _mounted() -> dict[str, tuple[list[Any], list[Any]]]:
    specs = {name: pod["spec"] for (_, name), pod in PODS.items()}
    found = {name: (spec["containers"][0]["volumeMounts"], spec["volumes"]) for name, spec in specs.items()}
    given = {"code": CODE, "run": LAUNCHER, "daemon": VALUES["dagsterDaemon"], "webserver": VALUES["dagsterWebserver"]}
    return found | {name: (one["volumeMounts"], one["volumes"]) for name, one in given.items()}


@pytest.mark.parametrize("name", sorted(_mounted()))
def test_a_pod_writes_to_the_home_and_to_tmp_alone(name: str) -> None:
    mounts, volumes = _mounted()[name]
    places = {one["mountPath"]: one["name"] for one in mounts}
    kept = {} if name in ("mlflow", "daemon", "webserver") else {SETTINGS["FRAUD_HOME"]: "home"}
    assert places == {"/tmp": "tmp"} | kept
    claims = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in volumes}
    assert claims == {"tmp": None} | ({"home": "fraud-home"} if kept else {})
    assert ("PersistentVolumeClaim", "fraud-home") in MANIFESTS


def test_every_pod_has_the_image_and_its_programs() -> None:
    assert {container["image"] for container in containers().values()} == {IMAGE}
    images = [CODE["image"], VALUES["dagsterDaemon"]["image"], VALUES["dagsterWebserver"]["image"]]
    assert {f"{image['repository']}:{image['tag']}" for image in images} == {IMAGE}
    for container in containers().values():
        # Through the image's entrypoint: args leave it, a command would not.
        assert (PROGRAMS / container["args"][0]).is_file()


def test_every_pod_of_the_platform_gets_the_settings_and_the_password() -> None:
    password = {"name": "fraud-postgres", "key": "postgresql-password"}
    assert VALUES["global"]["postgresqlSecretName"] == password["name"]
    run = LAUNCHER["runK8sConfig"]["containerConfig"]
    given = {
        **{name: (one["env"], one["envFrom"]) for name, one in containers().items()},
        **{
            name: (env, [{"configMapRef": one} for one in maps])
            for name, env, maps in (
                ("code", CODE["env"], CODE["envConfigMaps"]),
                ("run", run["env"], LAUNCHER["envConfigMaps"]),
            )
        },
    }
    for name, (env, sources) in given.items():
        assert {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": password}} in env, name
        assert {"configMapRef": {"name": "fraud-settings"}} in sources, name


def test_a_run_has_its_own_limits_and_not_those_of_the_code_server() -> None:
    # dagster-k8s 0.29.27 lets what a code location gives win over what the launcher says.
    assert CODE["includeConfigInLaunchedRuns"] == {"enabled": False}
    resources = LAUNCHER["runK8sConfig"]["containerConfig"]["resources"]
    # More than the whole platform took for the Handbook's months, Postgres included.
    taken = [
        figure["value"]
        for figure in yaml.safe_load((PROJECT_ROOT / "benchmarks" / "results" / "platform.json").read_text())
        if figure["name"] == "handbook_peak_mib"
    ]
    assert int(resources["requests"]["memory"].removesuffix("Gi")) * 1024 >= taken[0]


# --- The same as docker-compose.yml -------------------------------------------------------------------------


def _composed(name: str) -> list[str]:
    return [str(word) for word in SERVICES[name]["command"]]


def test_the_service_is_started_as_in_docker_compose() -> None:
    assert [str(word) for word in containers()["scoring"]["args"]] == _composed("scoring")


def test_all_that_docker_compose_prepares_is_prepared() -> None:
    (*ours, script), (*theirs, composed) = containers()["fraud-prepare"]["args"], _composed("prepare")
    assert ours == theirs
    assert set(composed.splitlines()) <= set(script.splitlines())
    compile(script, "prepare", "exec")


def test_mlflow_is_started_as_in_docker_compose_but_for_where_it_keeps_things() -> None:
    ours, theirs = containers()["mlflow"]["args"], _composed("mlflow")
    elsewhere = ("--backend-store-uri=", "--artifacts-destination=")
    assert [w for w in ours if not w.startswith(elsewhere)] == [w for w in theirs if not w.startswith(elsewhere)]
    assert option(ours, "--artifacts-destination").startswith("s3://")
    own = {one["name"]: one.get("value") for one in containers()["mlflow"]["env"]}
    composed = SERVICES["mlflow"]["environment"]
    assert own["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == composed["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"]
    assert f":{option(ours, '--port')}" in SETTINGS["FRAUD_MLFLOW_URI"]
    assert urlsplit(SETTINGS["FRAUD_MLFLOW_URI"]).netloc in option(ours, "--allowed-hosts").split(",")


def test_the_code_server_is_started_as_in_docker_compose() -> None:
    composed = _composed("dagster-code")
    assert [option(CODE["dagsterApiGrpcArgs"], "--module-name"), str(CODE["port"])] == [
        option(composed, "--module-name"),
        option(composed, "--port"),
    ]
    [server] = VALUES["dagsterWebserver"]["workspace"]["servers"]
    [located] = yaml.safe_load((PROJECT_ROOT / "deploy" / "workspace.yaml").read_text())["load_from"]
    assert server == {"host": CODE["name"], "port": CODE["port"], "name": located["grpc_server"]["location_name"]}
    assert str(VALUES["dagsterWebserver"]["service"]["port"]) == option(_composed("dagster-webserver"), "--port")


def test_settings_are_variables_that_exist_with_the_values_of_docker_compose() -> None:
    composed = SERVICES["scoring"]["environment"]
    known = {f"FRAUD_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in SETTINGS if name.startswith("FRAUD_")} <= known
    assert set(SETTINGS) - set(composed) == {"HOME"}
    differ = {name for name in set(SETTINGS) & set(composed) if SETTINGS[name] != composed[name]}
    # In a file for compose, this is what it is unless the environment has another.
    assert composed["FRAUD_MLFLOW_UI_URL"] == f"${{FRAUD_MLFLOW_UI_URL:-{SETTINGS['FRAUD_MLFLOW_UI_URL']}}}"
    assert differ == {"FRAUD_DATABASE_URL", "FRAUD_MLFLOW_UI_URL"}


# --- One database -------------------------------------------------------------------------------------------


def test_all_reach_the_same_server() -> None:
    url = urlsplit(SETTINGS["FRAUD_DATABASE_URL"])
    postgres = VALUES["postgresql"]
    assert url.password is None
    assert (url.hostname, url.port, url.username, url.path) == (
        postgres["postgresqlHost"], postgres["service"]["port"], postgres["postgresqlUsername"],
        f"/{postgres['postgresqlDatabase']}",
    )  # fmt: skip
    mlflow = urlsplit(option(containers()["mlflow"]["args"], "--backend-store-uri"))
    assert (mlflow.netloc, mlflow.path) == (url.netloc, url.path)
    assert parse_qs(mlflow.query) == parse_qs(url.query) | {"options": ["-csearch_path=mlflow"]}


def test_the_charts_dagster_reads_the_tables_that_fraud_writes() -> None:
    postgres = VALUES["postgresql"]
    charts = get_conn_string(
        postgres["postgresqlUsername"], "any", postgres["postgresqlHost"], postgres["postgresqlDatabase"],
        port=str(postgres["service"]["port"]), params=postgres["postgresqlParams"],
    )  # fmt: skip
    ours = make_url(Database(SETTINGS["FRAUD_DATABASE_URL"]).schema_url("dagster")).set(password="any")
    assert make_url(charts) == ours


def test_dagster_takes_the_instance_that_the_chart_makes_of_the_values(tmp_path: Path) -> None:
    """As the chart's template writes it; the launcher is no part of the lock, and what is said of it is not tried."""
    daemon, concurrency = VALUES["dagsterDaemon"], VALUES["concurrency"]
    assert not any(daemon["runCoordinator"]["config"]["queuedRunCoordinator"].values())
    instance = {
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "concurrency": {
            "pools": {
                "granularity": concurrency["pools"]["granularity"],
                "default_limit": concurrency["pools"]["defaultLimit"],
            },
            "runs": {"max_concurrent_runs": concurrency["runs"]["maxConcurrentRuns"]},
        },
        "run_monitoring": {
            re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name): value
            for name, value in daemon["runMonitoring"].items()
        },
        "telemetry": VALUES["telemetry"],
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance), encoding="utf-8")
    taken, _ = dagster_instance_config(str(tmp_path))
    ours = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    assert taken["concurrency"]["pools"] == ours["concurrency"]["pools"]
    assert taken["run_monitoring"]["max_runtime_seconds"] == ours["run_monitoring"]["max_runtime_seconds"]


# --- The image ----------------------------------------------------------------------------------------------


def test_the_image_adds_locked_packages_to_the_platforms_and_stays_its_user() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (.+)$", text, re.MULTILINE) == [SERVICES["scoring"]["image"]]
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "fraud"
    [installed] = re.findall(r"pip install (.+?)\s*\\?$", text, re.MULTILINE)
    assert "--require-hashes" in installed
    for source in re.findall(r"^COPY (\S+)", text, re.MULTILINE):
        assert (FOLDER / source).is_file()


def test_the_lock_agrees_with_the_projects_and_has_the_launcher_of_its_dagster() -> None:
    def versions(file: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE))

    ours, added = versions(PROJECT_ROOT / "requirements.lock"), versions(FOLDER / "requirements.lock")
    assert {name for name in ours.keys() & added.keys() if ours[name] != added[name]} == set()
    assert {"boto3", "dagster-k8s", "kubernetes"} <= added.keys() - ours.keys()
    # Dagster 1.x has libraries 0.(x + 16).
    _, minor, patch = ours["dagster"].split(".")
    assert added["dagster-k8s"] == f"0.{int(minor) + 16}.{patch}"
    assert f"--version {ours['dagster']} " in (FOLDER / "dagster-values.yaml").read_text(encoding="utf-8")
