"""Whether a backup is as it was written, and whether this version can restore it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fraud_assets.adapters.backups.dump import list_dump
from fraud_assets.adapters.backups.folder import BackupError, find_damage, is_backup, read_manifest
from fraud_assets.adapters.postgres.schema import REVISIONS, SchemaVersion
from fraud_assets.workflows.backups.make import DUMP


def check_backup(folder: Path) -> dict[str, Any]:
    """Reads every file of a backup and compares it with the manifest.

    Args:
        folder: of a backup, or one with backups in it, of which the newest is meant.

    Returns:
        The manifest, and `backup`, its folder.

    Raises:
        BackupError: when a file is missing, altered or additional, or a later version wrote it.
    """
    place = newest_backup(folder)
    manifest = read_manifest(place)
    if damages := find_damage(place, manifest["files"]):
        more = f"; and {len(damages) - 5} more" if len(damages) > 5 else ""
        raise BackupError(f"{place} is damaged: {'; '.join(damages[:5])}{more}; use another backup")
    if SchemaVersion(manifest["revision"], manifest["contract"]).state == "ahead":
        raise BackupError(
            f"{place} is of a later version of fraud-assets (revision {manifest['revision']}; this one knows revisions "
            f"up to {REVISIONS[-1]}); install {manifest['versions']['fraud-assets']}"
        )
    list_dump(place / DUMP)
    return {"backup": str(place), **manifest}


def newest_backup(folder: Path) -> Path:
    """The backup that a folder is, or the newest that is in it.

    Raises:
        BackupError: when there is none.
    """
    folder = folder.expanduser().resolve()
    if is_backup(folder):
        return folder
    # By name, which holds the time; one that is damaged shall not be passed over in silence.
    found = (
        [one for one in folder.iterdir() if not one.name.startswith(".") and is_backup(one)] if folder.is_dir() else []
    )
    if not found:
        raise BackupError(f"there is no backup in {folder}; `fraud backup {folder}` makes one")
    contracts = {one.name[: -len("-2026-01-01T000000Z")] for one in found}
    if len(contracts) > 1:
        raise BackupError(f"{folder} has backups of {', '.join(sorted(contracts))}; name the folder of one backup")
    return max(found, key=lambda one: one.name)
