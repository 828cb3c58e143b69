"""Restoring a backup: everything is checked before anything is changed, and it is whole or not at all.

Files are laid beside those that are there. The database is replaced in one transaction, which also marks it; from then
on the restore counts, and what is left to do is to swap folders, and to erase again who was erased since. A process
that is killed before leaves everything as it was, one that is killed after is finished by the next command.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fraud_assets.adapters.backups.dump import SCHEMAS, is_empty, last_restored, restore_dump, sessions_of_others
from fraud_assets.adapters.backups.folder import BackupError, copy_tree, digest_of, make_folder, sync, write_text
from fraud_assets.adapters.backups.owners import lost_rights, read_rights, shut_out
from fraud_assets.adapters.head_file import read_head, write_head
from fraud_assets.adapters.live_bento import read_services
from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.people.book import kept_entries
from fraud_assets.adapters.postgres.database import Database, locate_database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.adapters.signing import public_key
from fraud_assets.core.decisions.chain import Head, LedgerError
from fraud_assets.core.models.live import LIVE_FILE
from fraud_assets.settings import Settings
from fraud_assets.workflows.backups.check import check_backup
from fraud_assets.workflows.backups.make import CONTRACT, DUMP, FILES, KEY
from fraud_assets.workflows.models.by_hand import repair
from fraud_assets.workflows.models.heads import verify_ledger
from fraud_assets.workflows.people.erase import erase_again
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.status import find_damages

STAGE, NOTE, LOCK = ".restore", "note.json", ".restore.lock"
FOLDERS = ("artifacts", "bentoml", "reports")
ASK_LATER = (
    "the server of FRAUD_MLFLOW_URI did not answer, so aliases and what is served were not compared with the ledger: "
    "start it, then `fraud reconcile`"
)


def restore_backup(
    settings: Settings, folder: Path, progress: Progress, *, actor: str, force: bool = False
) -> dict[str, Any]:
    """Puts a backup in the place of the database and the files of a home, and checks what came of it.

    Args:
        settings: of the home and the database to restore into.
        folder: the backup, or a folder with backups, of which the newest is taken.
        progress: hears of it.
        actor: who asks.
        force: also over what is there, and where others have it open: they lose their connections.

    Returns:
        `backup`, `contract`, `made_at`, `months`; `ledger`, as `verify_ledger` gives it; `repaired`, what had to follow
        the ledger, in sentences; `left`, what still does not; `notes`, what is to be known, in sentences.

    Raises:
        BackupError: when the backup is damaged, of a later version or another contract, or the system is not empty or
            in use. Nothing is changed then. After the restore: when what was restored is not what was backed up.
    """
    with progress.working("comparing every file with its digest"):
        backup = check_backup(folder)
    contract = settings.loaded_contract.name
    if backup["contract"] != contract:
        raise BackupError(
            f"{backup['backup']} is of contract {backup['contract']!r}, and FRAUD_CONTRACT names {contract!r}; the "
            f"backup has its contract as {CONTRACT}"
        )
    settings.workspace.mkdir(parents=True, exist_ok=True)
    with _alone(settings):
        database = locate_database(settings)
        _settle(settings, database)
        if not force:
            _refuse_running(settings, database)
            _refuse_full(settings, database, backup)
        _forget(settings)
        before = read_rights(database, SCHEMAS)
        with progress.working("restoring"):
            _replace(settings, database, backup, end_others=force)
        with progress.working("comparing every value with what was written"):
            found = _checked(settings, backup, actor)
        lost = lost_rights(before, read_rights(database, SCHEMAS)) + shut_out(database, settings.dagster_url)
        return found | {"notes": [*found["notes"], *lost]}


def settle_restore(settings: Settings, *, actor: str) -> bool:
    """Finishes a restore that was killed after its database was replaced, or removes what is left of an earlier one.

    Args:
        settings: of the home.
        actor: whose command it is, which erases again who was erased since the backup.

    Returns:
        Whether there was one.

    Raises:
        BackupError: when one is under way.
        ErasureError: when persons are to be erased again, and the key to recognise them is not there.
        TableError: when one of their months is not as it was written.
    """
    if not (settings.workspace / STAGE).is_dir():
        return False
    with _alone(settings):
        if _settle(settings, locate_database(settings)):
            erase_again(settings, open_store(settings, writing=True), actor=actor)
            _forget(settings)
    return True


def _settle(settings: Settings, database: Database) -> bool:
    """Puts files in place if the restore counts, and forgets it; not before persons who were erased are erased again.

    Returns:
        Whether that is still to be done.
    """
    stage = settings.workspace / STAGE
    if not (stage / NOTE).is_file():
        _forget(settings)
        return False
    note = json.loads((stage / NOTE).read_text(encoding="utf-8"))
    counts = last_restored(database) == note["mark"]
    if counts:
        _swap(settings, stage, note)
    if counts and kept_entries(settings.erasure_key_file):
        return True
    _forget(settings)
    return False


def _forget(settings: Settings) -> None:
    if (stage := settings.workspace / STAGE).is_dir():
        shutil.rmtree(stage)


def _swap(settings: Settings, stage: Path, note: dict[str, Any]) -> None:
    """Puts the new folders in place; what was done already is left, so that it can be done again after a kill."""
    make_folder(stage / "old")
    for name in FOLDERS:
        new, here = stage / "new" / name, settings.workspace / name
        if not new.is_dir():
            continue
        if here.exists():
            here.rename(stage / "old" / f"{name}-{uuid.uuid4().hex}")
        new.rename(here)
    sync(settings.workspace)
    # A later one stays where it is, and the backup's is earlier.
    settings.ledger_head_file.unlink(missing_ok=True)
    if note["head"]:
        write_head(settings.ledger_head_file, Head(note["head"]["number"], note["head"]["hash"]))


def _refuse_running(settings: Settings, database: Database) -> None:
    running = [f"a service (process {one.process})" for one in read_services(settings.bentoml_home)]
    running += sessions_of_others(database)
    if running:
        raise BackupError(
            f"the platform is in use: {'; '.join(running)}; stop what runs (service, `fraud dev`, runs, consoles), or "
            "use --force, which takes the database away from them"
        )


def _refuse_full(settings: Settings, database: Database, backup: dict[str, Any]) -> None:
    files = [name for name in FOLDERS if any((settings.workspace / name).rglob("*"))]
    if files or not is_empty(database):
        what = " and ".join([*([] if is_empty(database) else ["the database"]), *files])
        raise BackupError(
            f"there is something already in {what}; --force puts the backup in its place, and it is gone then "
            "(`fraud backup` keeps it)"
        )
    try:
        kept = read_head(settings.ledger_head_file)
    except LedgerError as error:
        raise BackupError(f"{error}; or use --force") from error
    last = backup["ledger_head"]["number"] if backup["ledger_head"] else 0
    if kept is not None and kept.number > last:
        raise BackupError(
            f"the backup's ledger ends at row {last}, and {settings.ledger_head_file} knows of row {kept.number}: the "
            "decisions after the backup would be lost; use a later backup, or --force"
        )


def _replace(settings: Settings, database: Database, backup: dict[str, Any], *, end_others: bool) -> None:
    stage, source, mark = settings.workspace / STAGE, Path(backup["backup"]), uuid.uuid4().hex
    try:
        for name in FOLDERS:
            if not (source / FILES / name).is_dir():
                continue  # of a platform with an MLflow server of its own
            digests = copy_tree(source / FILES / name, stage / "new" / name, skipped=())
            # What is laid down is compared, not only what was read before.
            wanted = {
                file.removeprefix(f"{FILES}/{name}/"): digest
                for file, digest in backup["files"].items()
                if file.startswith(f"{FILES}/{name}/")
            }
            if digests != wanted:
                raise BackupError(f"{source} was altered while it was restored; nothing was changed")
        if digest_of(source / DUMP) != backup["files"][DUMP]:
            raise BackupError(f"{source / DUMP} was altered while it was restored; nothing was changed")
        write_text(stage / NOTE, json.dumps({"mark": mark, "head": backup["ledger_head"]}))
        sync(stage)
        moved = {backup["artifacts"]: str(settings.artifacts)}
        moved |= {quote(old): quote(new) for old, new in moved.items()}
        restore_dump(database.url, source / DUMP, mark, moved, end_others=end_others)
    finally:
        # Also after an error: the last word of a lost connection may have been the commit.
        _settle(settings, database)


def _checked(settings: Settings, backup: dict[str, Any], actor: str) -> dict[str, Any]:
    store = open_store(settings, writing=True)
    months = {f"{table} {month}": digest for (table, month), (digest, _) in store.current(as_stored=True).items()}
    wrong = [name for name in {*months, *backup["months"]} if months.get(name) != backup["months"].get(name)]
    wrong += [f"{one['table']} {one['month']}" for one in find_damages(store, by_value=True)["damages"]]
    if wrong:
        raise BackupError(f"what was restored is not what was backed up: {', '.join(sorted(set(wrong))[:5])}")
    ledger, registry = LedgerStore(store.database, settings.ledger_head_file), Registry(settings)
    verified = verify_ledger(ledger, registry, settings)
    if verified["fault"]:
        raise BackupError(f"the restored ledger is not as it was written: {verified['fault']['sentence']}")
    notes = _notes(settings, Path(backup["backup"]))
    if other_key := _has_other_key(settings, Path(backup["backup"])):
        # A service would refuse what another key signed; so the live model is packaged again below.
        (settings.bentoml_home / LIVE_FILE).unlink(missing_ok=True)
        notes.append(other_key)
    if again := erase_again(settings, store, actor=actor):
        notes.append(f"{again} persons who were erased after this backup was made are erased again")
    _forget(settings)
    repaired: dict[str, Any] = {"repaired": [], "left": []}
    if verified["rows"]:
        try:
            # One that is away says so within seconds; asked for a change, within minutes.
            registry.seen()
            repaired = repair(settings, store, actor=actor)
        except RegistryError:
            if settings.mlflow_uri is None:
                raise
            # It stands on the same database, so it is started after the restore.
            notes.append(ASK_LATER)
    return {
        "backup": backup["backup"],
        "contract": backup["contract"],
        "made_at": backup["made_at"],
        "months": len({month for _, month in store.current()}),
        "ledger": verified,
        **repaired,
        "notes": notes,
    }


def _notes(settings: Settings, backup: Path) -> list[str]:
    if digest_of(settings.contract_path) == digest_of(backup / CONTRACT):
        return []
    return [
        f"{settings.contract_path} is not the contract of the backup ({backup / CONTRACT}); `fraud refresh --dry-run` "
        "says which months that makes stale"
    ]


def _has_other_key(settings: Settings, backup: Path) -> str:
    """A sentence, where the home has not the key that the backup's packages were signed with; else nothing."""
    key = settings.signing_key_file
    if not (backup / KEY).is_file() or (key.exists() and public_key(key) == (backup / KEY).read_bytes()):
        return ""
    return (
        f"{key} is not the key that the backup's packages were signed with, so the live model is packaged again and "
        "signed with this one"
    )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    handle = os.open(settings.workspace / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError("a restore is under way; wait until it has ended") from error
        yield
    finally:
        os.close(handle)
