"""A backup: one moment of the database, and the files that it speaks of.

The moment comes first and the files after it. Files are written before the database names them and are not altered
afterwards, so each file that the moment names is there; files from after it do no harm, except those that would
contradict the ledger: they are left out.
"""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from fraud_assets.adapters.backups.dump import Facts, list_dump, snapshot, write_dump
from fraud_assets.adapters.backups.folder import (
    BackupError,
    backups_in,
    copy_file,
    copy_tree,
    digest_of,
    make_folder,
    whole_or_not_at_all,
    write_manifest,
    write_text,
)
from fraud_assets.adapters.bento import BENTO_NAME, labels_of_bentos
from fraud_assets.adapters.live_bento import read_live
from fraud_assets.adapters.postgres.database import locate_database
from fraud_assets.adapters.postgres.schema import SchemaVersion
from fraud_assets.adapters.signing import public_key
from fraud_assets.core.decisions.chain import Head
from fraud_assets.core.models.live import LIVE_FILE
from fraud_assets.settings import Settings
from fraud_assets.workflows.backups.made import remember_backup
from fraud_assets.workflows.progress import Progress

DUMP, FILES, HEAD, KEY, CONTRACT, SETTINGS = (
    "database.dump", "files", "ledger-head.json", "signing.pub", "contract.yaml", "settings.json",
)  # fmt: skip
NOT_KEPT = "set, and not kept here"


def make_backup(settings: Settings, folder: Path, progress: Progress, keep: int | None = None) -> dict[str, Any]:
    """Writes a backup into a new folder inside of `folder`, named by contract and time; nothing in the home is changed.

    Args:
        settings: of the home.
        folder: made if need be.
        progress: hears of it.
        keep: how many backups of this contract are kept in it, this one included; None keeps all.

    Returns:
        `backup`, its folder; `bytes`, `files`, `seconds`, `revision`, `ledger_head`, `months`; `removed`, the folders
        of older backups; `left_out`, in sentences.

    Raises:
        BackupError: when it cannot be whole; there is none then, and no older one was removed.
        DatabaseError: when the database cannot be reached.
    """
    began = time.monotonic()
    now = datetime.now(UTC)
    contract = settings.loaded_contract.name
    database = locate_database(settings)
    place = folder.expanduser().resolve() / f"{contract}-{now:%Y-%m-%dT%H%M%SZ}"
    with whole_or_not_at_all(place) as scratch:
        with snapshot(database) as (moment, facts):
            _check_owner(facts, contract)
            with progress.working("dumping the database"):
                pg_dump = write_dump(database.url, moment, scratch / DUMP)
        list_dump(scratch / DUMP)
        with progress.working("copying files"):
            _copy_files(settings, facts, scratch / FILES)
        _write_small_files(settings, facts, scratch)
        with progress.working("computing digests"):
            files = _digests(scratch)
        said = {
            "contract": contract,
            "made_at": now.isoformat(),
            "versions": {"fraud-assets": version("fraud-assets"), "postgresql": facts.server, "pg_dump": pg_dump},
            "revision": facts.revision,
            "ledger_head": {"number": facts.head[0], "hash": facts.head[1]} if facts.head else None,
            "months": facts.months,
            "artifacts": str(settings.artifacts),
            "bytes": sum((scratch / name).stat().st_size for name in files),
        }
        write_manifest(scratch, said, files)
    remember_backup(settings, place)
    kept = backups_in(place.parent, contract)
    removed = kept[: -max(keep, 1)] if keep is not None else []
    for old in removed:
        shutil.rmtree(old)
    return {
        "backup": str(place),
        "files": len(files),
        "seconds": round(time.monotonic() - began, 1),
        "removed": [str(old) for old in removed],
        "left_out": _left_out(settings),
        **{name: said[name] for name in ("bytes", "revision", "ledger_head")},
        "months": len({name.split()[1] for name in facts.months}),
    }


def _check_owner(facts: Facts, contract: str) -> None:
    if facts.contract is None:
        raise BackupError("the database holds nothing of this platform yet, so there is nothing to back up")
    if facts.contract != contract:
        raise BackupError(
            f"the database holds the months of contract {facts.contract!r}, not of {contract!r}; set FRAUD_CONTRACT to "
            "that contract, or FRAUD_DATABASE_URL to its database"
        )
    if SchemaVersion(facts.revision, facts.contract).state == "ahead":
        raise BackupError(
            f"the database was made by a later version of fraud-assets (revision {facts.revision}); back it up with "
            "that version"
        )


def _copy_files(settings: Settings, facts: Facts, target: Path) -> None:
    bentos = target / "bentoml"
    make_folder(bentos)
    # First: the bento that it names is there already.
    if (settings.bentoml_home / LIVE_FILE).is_file():
        copy_file(settings.bentoml_home / LIVE_FILE, bentos / LIVE_FILE)
    for name in ("bentos", "models"):
        copy_tree(settings.bentoml_home / name, bentos / name)
    copy_tree(settings.reports, target / "reports")
    if settings.mlflow_uri is None:
        copied = copy_tree(settings.artifacts, target / "artifacts")
        _check_artifacts(settings, facts, copied)
    _leave_out_later(facts, bentos)


def _check_artifacts(settings: Settings, facts: Facts, copied: dict[str, str]) -> None:
    """Each model of the moment has its files: a pruning at the same time may have taken some."""
    folders = {str(parent) for name in copied for parent in Path(name).parents}
    for place in facts.artifacts:
        path = Path(unquote(urlsplit(place).path))
        if path.is_relative_to(settings.artifacts) and str(path.relative_to(settings.artifacts)) not in folders:
            raise BackupError(
                f"the files of a registered model are not in {path}: where something was pruned meanwhile, give the "
                "same command again; else `fraud status` says what is missing"
            )


def _leave_out_later(facts: Facts, bentos: Path) -> None:
    """Takes away what was packaged and named after the moment: it knows rows of the ledger that the dump has not."""
    last = facts.head[0] if facts.head else 0
    live = read_live(bentos)
    for tag, labels in labels_of_bentos(bentos).items():
        if (text := labels.get("ledger_head")) and Head.parse(text, tag).number > last:
            shutil.rmtree(bentos / "bentos" / BENTO_NAME / tag.partition(":")[2])
    if live is not None and (live.row > last or not (bentos / live.folder / "bento.yaml").is_file()):
        (bentos / LIVE_FILE).unlink()


def _write_small_files(settings: Settings, facts: Facts, scratch: Path) -> None:
    if facts.head:
        head = {"number": facts.head[0], "hash": facts.head[1]}
        write_text(scratch / HEAD, json.dumps(head, indent=2) + "\n")
    if settings.signing_key_file.exists():
        write_text(scratch / KEY, public_key(settings.signing_key_file).decode())
    copy_file(settings.contract_path, scratch / CONTRACT)
    write_text(scratch / SETTINGS, json.dumps(settings_without_secrets(settings), indent=2) + "\n")


def settings_without_secrets(settings: Settings) -> dict[str, Any]:
    """The settings by their variables: secrets only as being set, addresses without user, password and query."""
    said: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = NOT_KEPT
        elif isinstance(value, str) and name.endswith(("_url", "_uri")):
            value = _address(value)
        said[f"FRAUD_{name.upper()}"] = str(value) if isinstance(value, Path) else value
    return said


def _address(url: str) -> str:
    """An address without what may be secret in it.

    >>> _address("postgresql://me:secret@db:5433/fraud?sslpassword=x")
    'postgresql://db:5433/fraud'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _digests(scratch: Path) -> dict[str, str]:
    """Of what lies in the backup, so that a copy that went wrong shows against the source of the next one."""
    return {
        path.relative_to(scratch).as_posix(): digest_of(path)
        for path in sorted(scratch.rglob("*"))
        if not path.is_dir()
    }


def _left_out(settings: Settings) -> list[str]:
    said = [f"the private signing key {settings.signing_key_file} and the secrets of the settings: keep them elsewhere"]
    if settings.erasure_key_file.exists():
        said.append(f"the key {settings.erasure_key_file}, by which erased persons are recognised: keep it elsewhere")
    if settings.mlflow_uri is not None:
        said.append("the MLflow server of FRAUD_MLFLOW_URI with its artifacts: back it up with its own means")
    if settings.scores_path.is_dir() and any(settings.scores_path.iterdir()):
        said.append(f"scores in {settings.scores_path} that are on their way to the database")
    return said
