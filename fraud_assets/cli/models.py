"""Models: promoting one by hand, the way back, the ledger, pruning, and scoring a file."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, graph, open_settings, print_json
from fraud_assets.cli.tables.models import show_prunable

ledger_commands = typer.Typer(invoke_without_command=True, help="What happened to each model, when, by whom and why.")

app.add_typer(ledger_commands, name="ledger")


@app.command()
def promote(
    version: Annotated[int, typer.Argument(help="The registered version to make champion.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the ledger.")],
    champion: Annotated[
        int | None, typer.Option("--champion", help="The champion that you know of; another one is a conflict.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion by hand, and package it. Exit code 3: the champion is not the one you knew."""
    from fraud_assets.workflows.runs.run_months import promote_version

    with clear_errors():
        settings = open_settings()
        month = promote_version(graph(settings), settings, version, reason, getpass.getuser(), champion)
        if as_json:
            print_json({"version": version, "month": month, "reason": reason})
        else:
            console.print(f"Version {version} is champion since the evidence of {month}; the bento is packaged.")


@app.command()
def rollback(
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the ledger.")],
    to: Annotated[int | None, typer.Option("--to", help="A version that was live; the one before when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Make the champion before this one champion again, without training. Exit code 3: another one came first."""
    from fraud_assets.workflows.runs.run_months import roll_back_version

    with clear_errors():
        settings = open_settings()
        version, month = roll_back_version(graph(settings), settings, reason, getpass.getuser(), to)
        if as_json:
            print_json({"version": version, "month": month, "reason": reason})
        else:
            console.print(f"Version {version} is champion again, since the evidence of {month}.")


@app.command()
def approve(
    version: Annotated[int, typer.Argument(help="A version that waits; `fraud status` names it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the ledger.")],
    as_json: Json = False,
) -> None:
    """Let a version that waits for a person go live, and package it."""
    _answer(version, reason, as_json=as_json, approved=True)


@app.command()
def reject(
    version: Annotated[int, typer.Argument(help="A version that waits; `fraud status` names it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the ledger.")],
    as_json: Json = False,
) -> None:
    """Leave a version that waits for a person where it is; what is live stays live."""
    _answer(version, reason, as_json=as_json, approved=False)


def _answer(version: int, reason: str, *, as_json: bool, approved: bool) -> None:
    from fraud_assets.workflows.runs.run_months import answer_version

    with clear_errors():
        settings = open_settings()
        month = answer_version(graph(settings), settings, version, reason, getpass.getuser(), approved=approved)
        if as_json:
            answer = "approved" if approved else "rejected"
            print_json({"version": version, "month": month, "reason": reason, "answer": answer})
        elif approved:
            console.print(f"Version {version} is champion since the evidence of {month}; the bento is packaged.")
        else:
            console.print(f"Version {version} was rejected, on the evidence of {month}; what is live stays live.")


@app.command()
def reconcile(as_json: Json = False) -> None:
    """Make the aliases in MLflow and what is served follow the ledger again."""
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.models.by_hand import repair

    with clear_errors():
        settings = open_settings()
        found = repair(settings, open_store(settings, writing=True), actor=getpass.getuser())
        if as_json:
            print_json(found)
        else:
            for said in found["repaired"] or ["nothing was to be repaired"]:
                console.print(said, highlight=False, soft_wrap=True)
            for said in found["left"]:
                console.print(f"[yellow]still:[/] {escape(said)}", highlight=False, soft_wrap=True)
    if found["left"]:
        raise typer.Exit(1)


@app.command()
def reproduce(
    version: Annotated[int, typer.Argument(help="The registered version to make again.")],
    frame: Annotated[
        Path | None,
        typer.Option("--frame", help="Write the rows it was trained on to this Parquet file, and train nothing."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a version again from what was recorded, to the same bytes; or say what has changed since."""
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.models import show_reproduction
    from fraud_assets.workflows.models.reproduce import export_frame
    from fraud_assets.workflows.models.reproduce import reproduce as made_again

    with clear_errors():
        settings = open_settings()
        store = open_store(settings)
        ledger, registry = LedgerStore(store.database), Registry(settings)
        if frame is not None:
            n_rows = export_frame(settings, store, ledger, registry, version, frame)
            told = {"version": version, "file": frame, "rows": n_rows}
            print_json(told) if as_json else print(f"{n_rows:,} rows that version {version} was trained on: {frame}")
            return
        found = made_again(settings, store, ledger, registry, version)
        print_json(found.to_dict()) if as_json else show_reproduction(console, found.to_dict())
    if not found.same:
        raise typer.Exit(1)


@app.command()
def prune(
    days: Annotated[float, typer.Option("--older-than", help="Days; what is younger stays.")] = 365,
    newest: Annotated[int, typer.Option("--keep", help="How many of each kind stay, whatever their age.")] = 12,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed; without it, nothing is changed.")] = False,
    as_json: Json = False,
) -> None:
    """List old models, packages, reports and runs that may go, and remove them with --yes.

    What is live, was live before, is the challenger, or is named by the ledger within the age, always stays.
    """
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.core.decisions.retention import Rules
    from fraud_assets.workflows.models.prune import as_row, find_and_prune

    with clear_errors():
        settings = open_settings()
        rules, database = Rules(days, newest), open_store(settings, writing=yes).database
        choices = find_and_prune(settings, database, rules, actor=getpass.getuser() if yes else None)
    if as_json:
        print_json({"removed": yes, "choices": [as_row(choice) for choice in choices]})
    else:
        show_prunable(console, choices, removed=yes)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it, such as model.tar.gz.")],
    wheels: Annotated[
        bool, typer.Option("--wheels", help="Bring all that serving needs, for a machine like this without a network.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the live model's bento into one file; `serve.sh` in it serves it on another machine."""
    from fraud_assets.workflows.models.export import export_package
    from fraud_assets.workflows.servers.dev_servers import live_package

    with clear_errors():
        settings = open_settings()
        tag, path = live_package(settings)
        done = export_package(tag, path, file, settings, wheels=wheels)
        if as_json:
            print_json(done)
        else:
            brought = f", with {done['wheels']} wheels" if wheels else ""
            console.print(f"{tag} is in {file}{brought}: {done['size'] / 1e6:,.1f} MB", highlight=False, soft_wrap=True)


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="A file of any kind: raw transactions, or the model's features.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; CSV to the screen when absent.")
    ] = None,
    explain: Annotated[
        int, typer.Option("--explain", help="Add so many reasons of each score, the strongest first.", min=0, max=100)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Score a file with the champion: the same rows plus score, decision and model_version."""
    from fraud_assets.adapters.files.writer import write_csv, write_file
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.core.decisions.ledger import champion_version
    from fraud_assets.core.decisions.why import why_no_model
    from fraud_assets.core.explanations.reason_codes import ReasonWriter
    from fraud_assets.core.models.scoring import Scorer
    from fraud_assets.workflows.score_file import scored_file
    from fraud_assets.workflows.why import newest_remarks

    with clear_errors():
        settings = open_settings()
        store = open_store(settings)
        database = store.database
        version = champion_version(LedgerStore(database, settings.ledger_head_file).events())
        if version is None:
            why = why_no_model(newest_remarks(store))
            raise ValueError(
                "no model has been promoted yet, so there is nothing to score with"
                + (f": {why}" if why else "; use `fraud run`")
            )
        scorer = Scorer(*Registry(settings).fetch(version))
        errors = Console(stderr=True)
        if explain and (why_not := ReasonWriter(scorer).why_not):
            errors.print(f"no reasons: {escape(why_not)}", highlight=False)
        progress = ShownProgress(errors)
        with scored_file(file, scorer, database, reasons=explain, progress=progress) as scored:
            if output is not None:
                with progress.working(f"writes {output.name}"):
                    n_rows = write_file(output, scored.schema, scored.batches())
                errors.print(f"{n_rows:,} rows scored by version {version}: {output}", soft_wrap=True)
            elif as_json:
                print_json([row for batch in scored.batches() for row in batch.to_pylist()])
            else:
                write_csv(sys.stdout.buffer, scored.schema, scored.batches())
    for problem in scored.problems.sentences():
        print(f"not scored: {problem}", file=sys.stderr)
    if len(scored.problems):
        raise typer.Exit(1)


@ledger_commands.callback()
def ledger(context: typer.Context, as_json: Json = False) -> None:
    """What happened to each model, when, by whom and why: the events of the ledger, in order."""
    if context.invoked_subcommand:
        return
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.cli.tables.models import show_ledger

    with clear_errors():
        settings = open_settings()
        store = LedgerStore(open_database(settings), settings.ledger_head_file)
        rows, fault = store.rows(), store.find_fault()
        print_json(rows) if as_json else show_ledger(console, rows)
        if fault:
            raise ValueError(f"the ledger is not as it was written: {fault.sentence}; see `fraud ledger verify`")


@ledger_commands.command("verify")
def verify(
    head: Annotated[
        Path | None, typer.Option("--head", help="A file with the head that was kept elsewhere; compared as well.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check each row of the ledger against its chain, and the last one against MLflow, the bentos and the file."""
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.cli.tables.models import show_verification
    from fraud_assets.workflows.models.heads import verify_ledger

    with clear_errors():
        settings = open_settings()
        store = LedgerStore(open_database(settings), settings.ledger_head_file)
        found = verify_ledger(store, Registry(settings), settings, head)
        print_json(found) if as_json else show_verification(console, found)
    if found["fault"] or found["not_asked"]:
        raise typer.Exit(1)
