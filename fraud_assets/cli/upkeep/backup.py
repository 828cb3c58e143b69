"""Backing up and restoring."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json


class _MakeUnlessNamed(TyperGroup):
    """`fraud backup DIR` makes a backup; a folder that is called like a command is written as `./verify`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["make", *args]
        return list(super().parse_args(ctx, args))


backup = typer.Typer(
    cls=_MakeUnlessNamed,
    no_args_is_help=True,
    help="`fraud backup DIR` writes a backup into a folder; `fraud backup verify DIR` checks one.",
)

app.add_typer(backup, name="backup")

Folder = Annotated[Path, typer.Argument(help="A backup, or a folder with backups, of which the newest is taken.")]


@backup.command("make")
def make(
    folder: Annotated[Path, typer.Argument(help="Where backups lie; each becomes a folder in it.")],
    keep: Annotated[
        int | None, typer.Option("--keep", help="Keep this many backups in it, and remove older ones.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Back up database, artifacts, bentos and reports, as they were at one moment; months may be written meanwhile."""
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.workflows.backups.make import make_backup

    with clear_errors():
        settings = open_settings()
        found = make_backup(settings, folder, ShownProgress(Console(stderr=True) if as_json else console), keep)
    if as_json:
        print_json(found)
        return
    size = f"{found['bytes'] / 1e6:,.1f} MB in {found['files']:,} files, {found['seconds']} s"
    _say(f"{found['backup']}: {found['months']} months, {size}")
    for said in found["left_out"]:
        _say(f"not in it: {said}")
    for old in found["removed"]:
        _say(f"removed {old}")


@backup.command("verify")
def verify(folder: Folder, as_json: Json = False) -> None:
    """Compare every file of a backup with its digest."""
    from fraud_assets.workflows.backups.check import check_backup

    with clear_errors():
        found = check_backup(folder)
    if as_json:
        print_json(found)
        return
    head = found["ledger_head"]
    _say(
        f"{found['backup']} is as it was written: {len(found['files']):,} files, contract {found['contract']}, "
        f"revision {found['revision']}, ledger up to row {head['number'] if head else 0}, made {found['made_at']}"
    )


@app.command()
def restore(
    folder: Folder,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there, also where others have the database open.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore database and files from a backup: all of it or nothing, and compared with what was backed up."""
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.workflows.backups.restore import restore_backup

    with clear_errors():
        settings = open_settings()
        progress = ShownProgress(Console(stderr=True) if as_json else console)
        found = restore_backup(settings, folder, progress, actor=getpass.getuser(), force=force)
    if as_json:
        print_json(found)
    else:
        rows = found["ledger"]["rows"]
        _say(
            f"restored {found['backup']}: {found['months']} months with the digests they had, and the ledger's {rows} "
            "rows as they were written"
        )
        for said in [*found["notes"], *found["repaired"], *(f"still: {one}" for one in found["left"])]:
            _say(said)
    if found["left"]:
        raise typer.Exit(1)


def _say(sentence: str) -> None:
    console.print(escape(sentence), highlight=False, soft_wrap=True)
