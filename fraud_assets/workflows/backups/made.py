"""Which backups of this home were made, so that it can be said where rows of people still are."""

from __future__ import annotations

from pathlib import Path

from fraud_assets.settings import Settings

FILE = "backups-made.txt"


def remember_backup(settings: Settings, folder: Path) -> None:
    """Notes where a backup was written."""
    with (settings.workspace / FILE).open("a", encoding="utf-8") as file:
        file.write(f"{folder}\n")


def made_backups(settings: Settings) -> list[str]:
    """The folders of backups that are still there, oldest first."""
    file = settings.workspace / FILE
    if not file.is_file():
        return []
    folders = dict.fromkeys(file.read_text(encoding="utf-8").splitlines())
    return [folder for folder in folders if Path(folder).is_dir()]
