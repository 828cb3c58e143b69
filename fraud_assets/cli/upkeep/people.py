"""People's rows: erasing one person, and removing what has become too old."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json


@app.command()
def erase(
    entity: Annotated[str, typer.Argument(help="What is erased, such as customer: an entity of the contract.")],
    identifier: Annotated[str, typer.Argument(help="Of the person, as the source has it.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Why, without the identifier; the ledger keeps it.")
    ] = "asked for by the person",
    backups: Annotated[
        list[Path] | None,
        typer.Option("--backups", help="A folder with backups that this home does not know of; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, nothing is changed.")] = False,
    as_json: Json = False,
) -> None:
    """Put a pseudonym in the place of a person everywhere, and list what is left; only a list without --yes.

    What it cannot change it names: delivered files, backups, other servers.
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
        _show(found)
    if yes and not found["complete"]:
        raise typer.Exit(1)


@app.command()
def retain(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, nothing is changed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove rows of people that are older than FRAUD_RETENTION_MONTHS; only a list without --yes.

    Counts, reports, models and the ledger stay, and nothing becomes stale. What it cannot remove it names: delivered
    files, backups, other servers.
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
        _show_old(found)


def _show_old(found: dict[str, Any]) -> None:
    done = found["removed"]
    for table, months in found["months"].items():
        counts = ", ".join(f"{month}: {n:,}" for month, n in months.items())
        _say(f"{table}: {counts} rows {'were' if done else 'would be'} removed")
    for where, n in found["rows"].items():
        _say(f"{where}: {n:,} rows {'were' if done else 'would be'} removed")
    for file in found["files"]:
        what = "would lose old scores" if file.endswith(".jsonl") else "would be deleted"
        _say(f"{file} {what.replace('would be', 'was').replace('would lose', 'lost') if done else what}")
    if not (found["months"] or found["rows"] or found["files"]):
        _say(f"no row of a person is from before {found['kept_from']}")
    for said in found["versions"]:
        _say(f"- {said}")
    if found["left"]:
        _say("Not removed by this command:" if done else "Would not be removed by this command:")
    for said in found["left"]:
        _say(f"- {said}")
    if done:
        _say(f"Rows from {found['kept_from']} on are kept; so are all counts, reports, models and the ledger.")
    else:
        _say(f"Rows from {found['kept_from']} on stay. Nothing was changed; --yes does it.")


def _show(found: dict[str, Any]) -> None:
    done = found["erased"]
    for table, months in found["months"].items():
        counts = ", ".join(f"{month}: {n:,}" for month, n in months.items())
        _say(f"{table}: {counts} rows {'have' if done else 'would get'} a pseudonym")
    for where, n in found["rows"].items():
        _say(f"{where}: {n:,} rows {'have' if done else 'would get'} a pseudonym")
    for file in found["files"]:
        _say(f"{file} {'was' if done else 'would be'} changed")
    if not (found["months"] or found["rows"] or found["files"]):
        _say("nobody of this identifier is in the tables")
    if found["left"]:
        _say("Not changed by this command:" if done else "Would not be changed by this command:")
    for said in found["left"]:
        _say(f"- {said}")
    if done:
        _say(f"From now on {found['entity']} is {found['pseudonym']} here, whoever delivers the identifier again.")
    else:
        _say("Nothing was changed; --yes does it.")


def _say(sentence: str) -> None:
    console.print(escape(sentence), highlight=False, soft_wrap=True)
