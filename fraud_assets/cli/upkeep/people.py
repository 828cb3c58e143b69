"""People's rows: erasing one person, and removing what has become too old."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

NOTHING_CHANGED = "Nothing was changed; give --yes to do it."


@app.command()
def erase(
    entity: Annotated[str, typer.Argument(help="Which entity of the contract the person is, such as customer.")],
    identifier: Annotated[str, typer.Argument(help="The person's identifier, as the source has it.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Why, without the identifier; goes into the ledger.")
    ] = "asked for by the person",
    backups: Annotated[
        list[Path] | None,
        typer.Option("--backups", help="A folder with backups that this home does not know of; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this option, nothing is changed.")] = False,
    as_json: Json = False,
) -> None:
    """Replace a person's identifier by a pseudonym everywhere; without --yes, only list where it is.

    It also lists what it cannot change: delivered files, backups, other servers.
    """
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.workflows.people import erase as erasing

    with clear_errors():
        settings = open_settings(create=yes)
        if yes:
            progress = ShownProgress(Console(stderr=True) if as_json else console)
            found = erasing.erase(
                settings, entity, identifier, reason=reason, actor=getpass.getuser(), backups=backups or (),
                progress=progress,
            )  # fmt: skip
        else:
            found = erasing.look(settings, entity, identifier, backups or ())
    if as_json:
        print_json(found)
    else:
        _show_erased(found)
    if yes and not found["complete"]:
        raise typer.Exit(1)


@app.command()
def retain(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this option, nothing is changed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove rows of people that are older than FRAUD_RETENTION_MONTHS; without --yes, only list them.

    Counts, reports, models and the ledger stay, and nothing becomes stale. It also lists what it cannot remove:
    delivered files, backups, other servers.
    """
    from fraud_assets.adapters.dagster_storage import busy_instance
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.workflows.people import retain as retaining

    with clear_errors():
        settings, now = open_settings(create=yes), datetime.now(UTC)
        if settings.retention_months is None:
            raise ValueError(retaining.NOT_SET)
        if yes:
            progress = ShownProgress(Console(stderr=True) if as_json else console)
            with busy_instance(settings) as instance:
                found = retaining.retain(settings, instance, now, actor=getpass.getuser(), progress=progress)
        else:
            found = retaining.look(settings, now)
    if as_json:
        print_json(found)
    else:
        _show_removed(found)


def _show_erased(found: dict[str, Any]) -> None:
    done = found["erased"]
    _show(
        found,
        rows="have a pseudonym" if done else "would get a pseudonym",
        of_file=lambda _: "was changed" if done else "would be changed",
        nothing="no row has this identifier",
        left="Not changed by this command:" if done else "Would not be changed by this command:",
        end=f"From now on {found['entity']} is {found['pseudonym']} here, also when the identifier is delivered again."
        if done
        else NOTHING_CHANGED,
    )


def _show_removed(found: dict[str, Any]) -> None:
    done, kept_from = found["removed"], found["kept_from"]

    def of_file(file: str) -> str:
        # Of a file of refused scores only the old lines go.
        if file.endswith(".jsonl"):
            return "lost old scores" if done else "would lose old scores"
        return "was deleted" if done else "would be deleted"

    _show(
        found,
        rows="were removed" if done else "would be removed",
        of_file=of_file,
        nothing=f"no row of a person is from before {kept_from}",
        left="Not removed by this command:" if done else "Would not be removed by this command:",
        end=f"Rows from {kept_from} on are kept; so are all counts, reports, models and the ledger."
        if done
        else f"Rows from {kept_from} on stay. {NOTHING_CHANGED}",
    )


def _show(
    found: dict[str, Any], *, rows: str, of_file: Callable[[str], str], nothing: str, left: str, end: str
) -> None:
    """What was found, place by place, each with what became of it; then what is left, and a last sentence."""
    for table, months in found["months"].items():
        counts = ", ".join(f"{month}: {n:,}" for month, n in months.items())
        _say(f"{table}: {counts} rows {rows}")
    for where, n in found["rows"].items():
        _say(f"{where}: {n:,} rows {rows}")
    for file in found["files"]:
        _say(f"{file} {of_file(file)}")
    if not (found["months"] or found["rows"] or found["files"]):
        _say(nothing)
    for said in found.get("versions", []):
        _say(f"- {said}")
    if found["left"]:
        _say(left)
    for said in found["left"]:
        _say(f"- {said}")
    _say(end)


def _say(sentence: str) -> None:
    console.print(escape(sentence), highlight=False, soft_wrap=True)
