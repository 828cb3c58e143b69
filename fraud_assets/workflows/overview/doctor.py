"""The platform's health, check by check: what is looked at, what is wrong with it, and what to do.

Nothing is changed. A check that cannot be made because something else is missing says so, and the others go on: a
database that is down keeps nobody from hearing of the disk. What rows are damaged is found in `status.py`.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import stat
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from packaging.requirements import Requirement

from fraud_assets.adapters.live_bento import read_live, read_services
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.people.book import entries
from fraud_assets.adapters.people.key import read_key
from fraud_assets.adapters.people.removed import removed_in_words
from fraud_assets.adapters.postgres.database import Database, locate_database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.postgres.run_processes import find_dead_runs
from fraud_assets.adapters.postgres.upgrade import describe
from fraud_assets.core.decisions.ledger import champion_version
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.lineage.staleness import in_words
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.backups.made import made_backups
from fraud_assets.workflows.models.heads import known_heads
from fraud_assets.workflows.models.served import check_served, recorded_digests
from fraud_assets.workflows.models.truth import find_disagreements
from fraud_assets.workflows.runs.refresh import open_stale
from fraud_assets.workflows.scores import read_kept
from fraud_assets.workflows.status import find_damages

Verdict = Literal["ok", "look", "broken", "not looked at"]

GIB = 2**30
# A month is built beside the old one, and PostgreSQL stops when it cannot write its log.
LITTLE_DISK, TOO_LITTLE_DISK = 5 * GIB, GIB // 2
# Months are cut, and labels dated, by this machine's clock and by the server's.
CLOCK_SECONDS, CLOCK_BROKEN_SECONDS = 5.0, 300.0
# Nothing of the platform holds a transaction open for so long without doing something.
IDLE_SECONDS = 600
BACKUP_DAYS = 35  # a month, and some days to make one
OLDEST_SERVER = 150_000

OPEN_SESSIONS = """
SELECT pid, coalesce(nullif(application_name, ''), 'a session'), extract(epoch FROM now() - state_change)::int
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%'
    AND now() - state_change > make_interval(secs => %s)
ORDER BY 3 DESC
"""
WAITING = """
SELECT pid, pg_blocking_pids(pid), extract(epoch FROM now() - query_start)::int FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND now() - query_start > make_interval(secs => %s)
"""
LEFT_OVER = """
SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'months' AND c.relkind = 'r' AND NOT c.relispartition ORDER BY 1
"""
LARGEST_MONTH = """
SELECT coalesce(max(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'months'
"""


@dataclass(frozen=True)
class Check:
    """What was found about one thing.

    Attributes:
        name: what was looked at.
        verdict: ok; look, where a person should; broken, where something does not work; or not looked at.
        said: what was found, in a sentence.
        remedy: what to do; empty where there is nothing to do.
    """

    name: str
    verdict: Verdict
    said: str
    remedy: str = ""


def examine(
    settings: Settings,
    now: datetime,
    *,
    by_value: bool = False,
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Looks at everything, or at some of it.

    Args:
        settings: of the home; it may be empty, and the database down.
        now: this machine's time.
        by_value: compare every stored value with what was written.
        only: names of checks (`CHECKS`); all when empty.

    Returns:
        `verdict`, the worst of all; `checks`, each as a `Check`; `months` and `damages` as `find_damages`.

    Raises:
        ValueError: for a name that is no check.
    """
    if unknown := set(only) - set(CHECKS):
        raise ValueError(f"there is no check {sorted(unknown)[0]!r}; there are {', '.join(CHECKS)}")
    patient = Patient(settings, now, by_value)
    checks = [_looked(name, look, patient) for name, look in CHECKS.items() if not only or name in only]
    order: list[Verdict] = ["ok", "not looked at", "look", "broken"]
    worst = max((one.verdict for one in checks), key=order.index, default="ok")
    return {
        "verdict": worst,
        "checks": [asdict(one) for one in checks],
        **(patient.damages or {"months": 0, "damages": []}),
    }


class NotThereError(PlatformError):
    """Something that a check needs is not there, which another check tells."""


class Patient:
    """What is looked at, opened when it is first needed; what could not be opened is not tried again."""

    def __init__(self, settings: Settings, now: datetime, by_value: bool) -> None:
        """Opens nothing yet."""
        self.settings, self.now, self.by_value = settings, now, by_value
        self.damages: dict[str, Any] | None = None
        self._database: Database | Exception | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever begun here; then no server is made for a look."""
        return self.settings.database_url is None and not (self.settings.postgres_folder / "PG_VERSION").is_file()

    def open_database(self) -> Database:
        """The database, of any version.

        Raises:
            Exception: what keeps it from being opened.
        """
        if self._database is None:
            try:
                self._database = locate_database(self.settings)
            except (PlatformError, ValueError, OSError) as error:
                self._database = error
        if isinstance(self._database, Exception):
            raise self._database
        return self._database

    @cached_property
    def database(self) -> Database:
        """The database, if it can be read.

        Raises:
            NotThereError: when it cannot; another check says why.
        """
        if self.is_empty:
            raise NotThereError("there is no database yet")
        try:
            database = self.open_database()
        except (PlatformError, ValueError, OSError) as error:
            raise NotThereError("the database cannot be reached") from error
        if database.version().state != "current":
            raise NotThereError("the tables are of another version")
        return database

    @cached_property
    def store(self) -> MonthStore:
        """The tables."""
        return MonthStore(self.database, self.settings.loaded_contract, self.settings.retention_months)

    @cached_property
    def ledger(self) -> LedgerStore:
        """The ledger."""
        return LedgerStore(self.database, self.settings.ledger_head_file)

    @cached_property
    def registry(self) -> Registry:
        """MLflow."""
        return Registry(self.settings)

    @property
    def has_models(self) -> bool:
        """Whether anything was ever registered."""
        return bool(self.ledger.rows())


Found: TypeAlias = tuple[Verdict, str, str]
"""Verdict, what was found, and what to do."""
Look: TypeAlias = Callable[[Patient], Found]


def _looked(name: str, look: Look, patient: Patient) -> Check:
    try:
        return Check(name, *look(patient))
    except NotThereError as error:
        return Check(name, "not looked at", f"{error}")
    except (PlatformError, ValueError, OSError) as error:
        return Check(name, "broken", " ".join(str(error).split()), REMEDIES.get(name, ""))


def _fine(said: str) -> Found:
    return "ok", said, ""


def plural(n: int, one: str, many: str = "") -> str:
    """A number of things.

    >>> plural(1, "month"), plural(2, "process", "processes")
    ('1 month', '2 processes')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


# The machine


def _home(patient: Patient) -> Found:
    settings = patient.settings
    if not settings.workspace.is_dir():
        return _fine(f"{settings.workspace} is not there yet; the first command that writes makes it")
    keys = [settings.signing_key_file, settings.api_keys_file, settings.erasure_key_file]
    for file in keys:
        if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            return (
                "broken",
                f"{file} can be read by others than its owner",
                f"run `chmod 600 {file}`, or make a new key",
            )
    if (settings.workspace / ".restore").is_dir():
        return (
            "look",
            "a restore is running, or was interrupted",
            "wait for it, or give another command, such as `fraud status`, which finishes it",
        )
    return _fine(f"{settings.workspace} is there, and its keys are its owner's alone")


def _disk(patient: Patient) -> Found:
    place = next(path for path in [patient.settings.workspace, *patient.settings.workspace.parents] if path.is_dir())
    free, largest = shutil.disk_usage(place).free, 0
    if not patient.is_empty and patient.settings.database_url is None:
        try:
            with patient.open_database().session() as connection:
                ((largest,),) = connection.execute(LARGEST_MONTH).fetchall()
        except (PlatformError, ValueError, OSError):
            largest = 0
    said = f"{free / GIB:.1f} GiB are free at {place}"
    remedy = "free space on it; `fraud prune` lists what can go"
    if free < max(TOO_LITTLE_DISK, 2 * int(largest)):
        return "broken", f"{said}, and a month needs more while it is written", remedy
    return ("look", said, remedy) if free < LITTLE_DISK else _fine(said)


def _versions(patient: Patient) -> Found:  # noqa: ARG001 - all checks take the patient
    locked, other = _locked(), []
    for name, wanted in locked.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed != wanted:
            other.append(f"{name} {installed} (locked: {wanted})")
    platform = importlib.metadata.version("fraud-assets")
    if other:
        shown = ", ".join(other[:5]) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
        return (
            "look",
            f"libraries are installed in other versions than were tested: {shown}",
            "install requirements.lock again",
        )
    return _fine(f"fraud-assets {platform}, with the {len(locked)} libraries that it was tested with")


def _locked() -> dict[str, str]:
    """The version of each library that is locked for this Python and system."""
    found = {}
    for line in re.findall(r"^[A-Za-z0-9][^#\n]*==[^\n]*", _lock_file(), re.MULTILINE):
        one = Requirement(line.rstrip("\\ "))
        if one.marker is None or one.marker.evaluate():
            found[one.name] = str(one.specifier).removeprefix("==")
    return found


def _lock_file() -> str:
    file = PROJECT_ROOT / "requirements.lock"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


# The database


def _database(patient: Patient) -> Found:
    if patient.is_empty:
        return _fine("there is none yet; the first command that writes makes it")
    database = patient.open_database()
    with database.session() as connection:
        ((number, version),) = connection.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')"
        ).fetchall()
    if number < OLDEST_SERVER:
        return "broken", f"PostgreSQL {version} answers", "use PostgreSQL 15 or later"
    where = "a server of your own" if patient.settings.database_url else "the embedded server"
    return _fine(f"PostgreSQL {version} answers, {where}")


def _tables(patient: Patient) -> Found:
    if patient.is_empty:
        raise NotThereError("there is no database yet")
    try:
        version = patient.open_database().version()
    except (PlatformError, ValueError, OSError) as error:
        raise NotThereError("the database cannot be reached") from error
    own = patient.settings.loaded_contract.name
    if version.contract not in (None, own):
        said = f"the database holds the months of contract {version.contract!r}, not of {own!r}"
        return "broken", said, "set FRAUD_CONTRACT to that contract, or FRAUD_DATABASE_URL to a database of its own"
    found = describe(version)
    if version.state == "behind":
        return "broken", found["sentence"], "run `fraud db upgrade`, which keeps all data"
    if version.state == "ahead":
        return "broken", found["sentence"], "install the version of fraud-assets that made it"
    return _fine(found["sentence"])


def _clocks(patient: Patient) -> Found:
    before = time.monotonic()
    with patient.database.session() as connection:
        ((server,),) = connection.execute("SELECT clock_timestamp()").fetchall()
    apart = abs((server - patient.now).total_seconds()) - (time.monotonic() - before)
    rows = patient.database.rows("month_versions", "SELECT max(written_at) FROM month_versions")
    newest = rows[0][0] if rows else None
    remedy = "set both by a time server (NTP)"
    if newest is not None and newest > patient.now + timedelta(seconds=CLOCK_SECONDS):
        return "broken", f"a month was written at {newest:%Y-%m-%d %H:%M} UTC, which is in the future here", remedy
    if apart > CLOCK_SECONDS:
        verdict: Verdict = "broken" if apart > CLOCK_BROKEN_SECONDS else "look"
        return verdict, f"this machine's clock and the database's are {apart:.0f} s apart", remedy
    return _fine("this machine and the database agree on the time")


def _locks(patient: Patient) -> Found:
    with patient.database.session() as connection:
        idle = connection.execute(OPEN_SESSIONS, [IDLE_SECONDS]).fetchall()
        waiting = connection.execute(WAITING, [IDLE_SECONDS]).fetchall()
    if waiting:
        pid, blockers, seconds = waiting[0]
        held = ", ".join(map(str, blockers)) or "another"
        said = f"session {pid} has waited for a lock for {seconds // 60} minutes, which session {held} holds"
        return (
            "broken",
            said,
            f"end the session that holds it: SELECT pg_terminate_backend({blockers[0] if blockers else pid})",
        )
    if idle:
        pid, name, seconds = idle[0]
        said = f"{name} (session {pid}) has had a transaction open for {seconds // 60} minutes and does nothing"
        return "look", said, f"months cannot be swapped meanwhile; end it: SELECT pg_terminate_backend({pid})"
    return _fine("no session holds others up")


def _staging(patient: Patient) -> Found:
    with patient.database.session() as connection:
        left = connection.execute(LEFT_OVER).fetchall()
    if not left:
        return _fine("no table of a month was left half-built")
    names = ", ".join(f"months.{name}" for name, _ in left[:5])
    size = sum(size for _, size in left) / 2**20
    said = f"{plural(len(left), 'table')} that belong to no month take {size:.1f} MB: {names}"
    return "look", said, f"if no run is under way: DROP TABLE {names}"


# What is stored


def _runs(patient: Patient) -> Found:
    dead = find_dead_runs(patient.database)
    if dead:
        return "broken", dead[0].sentence, "run the month again; the daemon of `fraud dev` also reports it as failed"
    return _fine("no run lost its process")


def _months(patient: Patient) -> Found:
    store = patient.store
    raw, features = store.months("raw_transactions"), store.months("transaction_features")
    reports = store.months("drift_report")
    half = sorted({*raw} - ({*features} & {*reports}))
    if half:
        return "look", f"{in_words(half)} were begun and not finished", f"fraud run --from {half[0]} --to {half[-1]}"
    stale = open_stale(patient.settings)
    if stale:
        months = in_words({one.month for one in stale})
        return "look", f"{plural(len(stale), 'table')} of {months} are stale", "run `fraud refresh`"
    return _fine(f"{plural(len(raw), 'month')} are stored, whole and up to date" if raw else "no month is stored yet")


def _rows(patient: Patient) -> Found:
    patient.damages = found = find_damages(patient.store, by_value=patient.by_value)
    how = "every value was compared" if patient.by_value else "rows were counted; --verify compares every value"
    looked = f"{found['months']} stored months looked at, {len(found['damages'])} not as they were written ({how})"
    if not found["damages"]:
        return _fine(looked)
    named = "; ".join(f"{one['table']} {one['month']}: {one['sentence']}" for one in found["damages"])
    months = sorted({one["month"] for one in found["damages"]})
    return "broken", f"{looked}: {named}", f"run {', '.join(months)} again"


def _people(patient: Patient) -> Found:
    known = entries(patient.database)
    if not known:
        return _fine("nobody was erased here")
    read_key(patient.settings.erasure_key_file)
    return _fine(f"{plural(len(known), 'person', 'persons')} were erased, and the key to recognise them is there")


def _old_rows(patient: Patient) -> Found:
    store, kept_from = patient.store, patient.store.kept_from
    removed = removed_in_words(store.removed())
    if kept_from is None:
        return _fine(removed or "rows of people are kept for ever (FRAUD_RETENTION_MONTHS is not set)")
    tables = [name for name, make in TABLES.items() if make(store.contract).holds_people]
    due = sorted({month for name in tables for month in store.months(name) if month < kept_from})
    remedy = "run `fraud retain --yes`, or turn the schedule `retention` on"
    if due:
        return "look", f"rows of people of {in_words(due)} are older than FRAUD_RETENTION_MONTHS allows", remedy
    if any(not one.is_told for one in store.removed().values()):
        return "look", "the last removal of old rows was interrupted", remedy
    return _fine(f"rows of people are kept from {kept_from} on{f'; {removed}' if removed else ''}")


# Models and serving


def _ledger(patient: Patient) -> Found:
    fault = patient.ledger.find_fault(known_heads(patient.registry, patient.settings) if patient.has_models else ())
    if fault:
        return "broken", f"the ledger is not as it was written: {fault.sentence}", REMEDIES["ledger"]
    return _fine(f"the ledger's {plural(len(patient.ledger.rows()), 'row')} are as they were written")


def _registry(patient: Patient) -> Found:
    if not patient.has_models:
        return _fine("nothing is registered yet")
    found = find_disagreements(patient.ledger, patient.registry, patient.settings)
    if found:
        return "broken", found[0].sentence, "run `fraud reconcile`"
    return _fine("MLflow answers, and says what the ledger says")


def _bento(patient: Patient) -> Found:
    settings, events = patient.settings, patient.ledger.events()
    version, live = champion_version(events), read_live(settings.bentoml_home)
    if version is None:
        return _fine("no model is live yet")
    if live is None:
        return "broken", f"version {version} is live, and no package is named for serving", "run `fraud reconcile`"
    check_served(settings.bentoml_home / live.folder, live.bento, version, recorded_digests(events),
                 settings.signing_key_file)  # fmt: skip
    return _fine(f"the package of version {version} is the one that was promoted, as its key signed it")


def _services(patient: Patient) -> Found:
    services = read_services(patient.settings.bentoml_home)
    refused = [one for one in services if one.refused]
    if refused:
        said = f"the service (process {refused[0].process}) goes on with version {refused[0].model_version}"
        return "broken", f"{said}, because {refused[0].refused}", "mend that, or run `fraud reconcile`"
    return _fine(
        f"{plural(len(services), 'process', 'processes')} of the service run" if services else "none runs here"
    )


def _scores(patient: Patient) -> Found:
    kept = read_kept(patient.store, patient.settings.scores_path)
    if not kept:
        return _fine("no score was kept yet")
    if kept["error"]:
        return "broken", kept["sentence"], "start the database; the scores are then sent without further help"
    if kept["lost"] or kept["refused"]:
        return "look", kept["sentence"], "see docs/scores.md; raise FRAUD_SCORES_SPOOL_MB where the spool was full"
    return _fine(kept["sentence"])


def _backups(patient: Patient) -> Found:
    if patient.is_empty or not patient.store.months("raw_transactions"):
        return _fine("there is nothing to back up yet")
    made = made_backups(patient.settings)
    if not made:
        return "look", "no backup of this home is known", "run `fraud backup DIR`; the folder keys is kept elsewhere"
    age = patient.now - datetime.fromtimestamp(Path(made[-1]).stat().st_mtime, UTC)
    said = f"the newest backup is {age.days} days old ({made[-1]})"
    return ("look", said, "run `fraud backup DIR`") if age > timedelta(days=BACKUP_DAYS) else _fine(said)


CHECKS: dict[str, Look] = {
    "home": _home,
    "disk": _disk,
    "versions": _versions,
    "database": _database,
    "tables": _tables,
    "clocks": _clocks,
    "locks": _locks,
    "left-over tables": _staging,
    "runs": _runs,
    "months": _months,
    "rows": _rows,
    "erased persons": _people,
    "old rows": _old_rows,
    "ledger": _ledger,
    "registry": _registry,
    "package": _bento,
    "service": _services,
    "scores": _scores,
    "backups": _backups,
}

REMEDIES = {
    "database": "see the message; for the embedded server also the log in the folder postgres of the home",
    "ledger": "see `fraud ledger verify`, and docs/reliability.md",
    "registry": "see whether MLflow is up, then run `fraud reconcile`",
    "package": "`fraud reconcile` packages it again",
    "erased persons": "nothing is written until the key is back: see docs/people.md",
}
