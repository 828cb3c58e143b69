"""The `fraud` command: thin; it calls what Dagster calls, and prints what is stored."""

from __future__ import annotations

import csv
import getpass
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from fraud_assets.core.errors import PlatformError
from fraud_assets.settings import Settings

if TYPE_CHECKING:
    from fraud_assets.core.models.decision_rule import DecisionRule

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Months of transactions in, a served fraud model out.",
)
console = Console()
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What a user can mend is told in a sentence; anything else keeps its traceback."""
    try:
        yield
    except (ValueError, PlatformError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _settings(*, create: bool = True) -> Settings:
    try:
        settings = Settings()
        if create:
            settings.workspace.mkdir(parents=True, exist_ok=True)
    except ValidationError as error:
        wrong = "; ".join(
            f"FRAUD_{'_'.join(map(str, problem['loc'])).upper()} is {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ValueError(f"a setting cannot be used: {wrong}") from error
    except OSError as error:
        raise ValueError(f"FRAUD_HOME cannot be used: {error}; name a folder that you may write to") from error
    return settings


def _graph() -> Any:
    """The job that holds every asset."""
    from fraud_assets.definitions import defs

    return defs.resolve_implicit_global_asset_job_def()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@app.command()
def start(
    file: Annotated[Path, typer.Argument(help="A file of transactions, or a folder with one file a month.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what is found.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="The contract's name; the file's when absent.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write the contract; contracts/NAME.yaml when absent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """From a file to a live model in one command: draft a contract, write the settings, run all months.

    It asks what only a person can know, and ends with the live model or with what is missing.
    """
    from fraud_assets.adapters.console import show_data_check, show_prepared, show_started
    from fraud_assets.workflows.new_source import start as starting

    told = Console(stderr=True) if as_json else console
    with _clear_errors():
        ask = None if yes or as_json else lambda question, default: str(typer.prompt(question, default=default))
        started, contract = starting.prepare(file, name, out, ask, told)
        show_prepared(told, started.to_dict())
        starting.use_settings(started)
        check = starting.look(started, contract)
        if check is not None:
            show_data_check(told, check.to_dict())
        if check is not None and started.missing is None:
            starting.run(_graph(), started, contract, check, told)
            if not as_json:
                _show_status(_settings())
        said = started.missing or (None if started.version else starting.no_model_yet(started))
        if as_json:
            _print_json(started.to_dict() | {"ended": said or f"version {started.version} is live"})
        else:
            show_started(console, started.to_dict(), said)
    if started.version is None and any(month["failed"] for month in started.months):
        raise typer.Exit(1)


@app.command()
def run(
    first: Annotated[str | None, typer.Option("--from", help="First month, YYYY-MM.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month, YYYY-MM.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh/--no-refresh", help="Make later months anew that were built on these.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Materialise the graph month by month: transactions to a promoted, packaged model.

    Later months that are there already, and were built without these months or on other rows of them, are made anew.
    """
    from fraud_assets.workflows.refresh import run_and_refresh

    with _clear_errors():
        settings = _settings()
        told = Console(stderr=True) if as_json else console
        outcome = run_and_refresh(_graph(), settings, first, last, told, refresh=refresh)
        if as_json:
            _print_json(outcome)
        else:
            _show_status(settings)
    if outcome["refreshed"]["failed"] or any(month["failed"] for month in outcome["months"]):
        raise typer.Exit(1)


@app.command()
def status(as_json: Json = False) -> None:
    """What is live, since when and why, how good it is, what drift says, and what is stale."""
    with _clear_errors():
        settings = _settings()
        if as_json:
            _print_json(_read_status(settings))
        else:
            _show_status(settings)


def _read_status(settings: Settings) -> dict[str, Any]:
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.refresh import open_stale
    from fraud_assets.workflows.status import read_status

    store = open_store(settings)
    return read_status(store, LedgerStore(store.database), open_stale(settings), partial(_rule, settings))


def _rule(settings: Settings, version: int) -> DecisionRule | None:
    """The decision rule of a version, from the registry, which takes seconds to load."""
    from fraud_assets.adapters.mlflow import Registry

    registry = Registry(settings)
    return registry.fetch(version)[1].rule if registry.has(version) else None


def _show_status(settings: Settings) -> None:
    from fraud_assets.adapters.console import show_status

    show_status(console, _read_status(settings))


@app.command()
def refresh(
    first: Annotated[str | None, typer.Option("--from", help="First month, YYYY-MM.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month, YYYY-MM.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is stale and why; run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make anew what is stale, and nothing else: what was built on labels or months that have changed since."""
    from fraud_assets.adapters.console import show_refresh
    from fraud_assets.workflows.refresh import refresh_months

    with _clear_errors():
        told = Console(stderr=True) if as_json else console
        outcome = refresh_months(_graph(), _settings(), first, last, told, dry_run=dry_run)
        if as_json:
            _print_json(outcome)
        else:
            show_refresh(console, outcome)
    if outcome["failed"]:
        raise typer.Exit(1)


@app.command()
def versions(
    table: Annotated[str, typer.Argument(help="The table, such as raw_transactions.")],
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; all months when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Every version that a table's months have had: when it was written, by which run, and what that changed."""
    from fraud_assets.adapters.console import show_versions
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.status import read_versions

    with _clear_errors():
        rows = read_versions(open_store(_settings()), table, month)
        if as_json:
            _print_json(rows)
        else:
            show_versions(console, table, rows)


@app.command()
def drift(
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; the newest when absent.")] = None,
    as_json: Json = False,
) -> None:
    """A month's drift report: the verdict, its reasons, and every feature."""
    from fraud_assets.adapters.console import show_drift
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.status import read_drift

    with _clear_errors():
        rows = read_drift(open_store(_settings()), month)
        if as_json:
            _print_json(rows)
        else:
            show_drift(console, rows)


@app.command()
def backtest(
    first: Annotated[str, typer.Option("--from", help="First month in which models are live, YYYY-MM.")],
    last: Annotated[str, typer.Option("--to", help="Last month, YYYY-MM.")],
    policy: Annotated[
        str, typer.Option("--policy", help="never, monthly, every-N, on-drift, on-watch; several with commas.")
    ] = "never,monthly,on-drift",
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the plot: .png, .svg or .html.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the rows.")] = None,
    as_json: Json = False,
) -> None:
    """Replay months under retraining policies, as they would have been known: what would each have brought?"""
    from fraud_assets.core.backtest.replay import parse_policies
    from fraud_assets.workflows.backtest import backtest_stored, save_picture, save_rows, show_backtest

    told = Console(stderr=True)
    with _clear_errors():
        if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".html"):
            raise ValueError(f"{plot} is no .png, .svg or .html; name a file of one of these kinds")
        policies = parse_policies(policy)
        rows = backtest_stored(
            _settings(), first, last, policies, lambda said: told.print(f"[dim]{escape(said)}[/]", highlight=False)
        )
        found = rows.to_pylist()
        if plot is not None:
            save_picture(found, plot)
        if csv_file is not None:
            save_rows(rows, csv_file)
        _print_json(found) if as_json else show_backtest(console, found)


@app.command()
def report(
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; the newest when absent.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; in FRAUD_HOME when absent.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """A month's drift report as one page to read, print or send: needs no network, no script, no other file."""
    import webbrowser

    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.report_page import write_report

    with _clear_errors():
        settings = _settings()
        store = open_store(settings)
        file = write_report(settings, store, LedgerStore(store.database), Registry(settings), month, output=output)
        _print_json({"file": file}) if as_json else print(file)
        if show and not webbrowser.open(file.as_uri()):
            raise ValueError(f"there is no browser to open it with here; the page is at {file}")


@app.command()
def promote(
    version: Annotated[int, typer.Argument(help="The registered version to make champion.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the ledger.")],
    as_json: Json = False,
) -> None:
    """Make a version the champion by hand, and package it."""
    from fraud_assets.workflows.run_months import promote_version

    with _clear_errors():
        settings = _settings()
        month = promote_version(_graph(), settings, version, reason, actor=getpass.getuser())
        if as_json:
            _print_json({"version": version, "month": month, "reason": reason})
        else:
            console.print(f"Version {version} is champion since the evidence of {month}; the bento is packaged.")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="A file of any kind: raw transactions, or the model's features.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; CSV to the screen when absent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a file with the champion: the same rows plus score, decision and model_version."""
    import pyarrow.csv

    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.core.decisions.ledger import champion_version
    from fraud_assets.core.decisions.why import why_no_model
    from fraud_assets.core.models.scoring import Scorer
    from fraud_assets.workflows.score_file import as_text, by_reason, score_file, write_table
    from fraud_assets.workflows.why import newest_remarks

    with _clear_errors():
        settings = _settings()
        store = open_store(settings)
        database = store.database
        version = champion_version(LedgerStore(database).events())
        if version is None:
            why = why_no_model(newest_remarks(store))
            raise ValueError(
                "no model has been promoted yet, so there is nothing to score with"
                + (f": {why}" if why else "; use `fraud run`")
            )
        scored, problems = score_file(file, Scorer(*Registry(settings).fetch(version)), database)
        if output is not None:
            write_table(scored, output)
            Console(stderr=True).print(f"{scored.num_rows:,} rows scored by version {version}: {output}")
        elif as_json:
            _print_json(scored.to_pylist())
        else:
            pyarrow.csv.write_csv(as_text(scored), sys.stdout.buffer)
    for problem in by_reason(problems):
        print(f"not scored: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


contracts = typer.Typer(no_args_is_help=True, help="Contracts: check one, or draft one for a new file.")
app.add_typer(contracts, name="contract")


@contracts.command("check")
def check_contract(
    file: Annotated[Path, typer.Argument(help="The contract.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="File or folder to try it on; the configured source when absent.")
    ] = None,
    month: Annotated[str | None, typer.Option("--month", help="YYYY-MM; the first there is when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a contract says, and what it makes of a month of data; nothing is written."""
    from fraud_assets.adapters.console import show_contract, show_data_check
    from fraud_assets.workflows.new_source.contract_files import check_contract

    with _clear_errors():
        contract, check = check_contract(file, data, month, lambda: _settings(create=False))
        found = check and check.to_dict()
        if as_json:
            _print_json({"file": file, "contract": contract.model_dump(mode="json"), "data": found})
        else:
            show_contract(console, contract)
            if found:
                show_data_check(console, found)
    if check and check.refused:
        raise typer.Exit(1)


@contracts.command("draft")
def draft_contract(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet that no contract describes yet.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write, as contracts/NAME.yaml; the screen when absent.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The contract's name; the file's when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Write a first contract for a file, for a person to finish."""
    from fraud_assets.core.drafting.draft import to_confirm
    from fraud_assets.workflows.new_source.contract_files import describe_files, write_draft

    with _clear_errors():
        draft = describe_files(file).draft(name).text
        if out is not None:
            write_draft(draft, out)
    if as_json:
        _print_json({"file": file, "out": out, "contract": draft, "to_confirm": to_confirm(draft)})
    elif out is None:
        print(draft, end="")
    else:
        console.print(f"{out} is written. To confirm:", highlight=False, soft_wrap=True)
        for question in to_confirm(draft):
            console.print(f"- {escape(question)}", highlight=False, soft_wrap=True)
        console.print(f"Then: fraud contract check {out} --data {file}", highlight=False, soft_wrap=True)


quarantine = typer.Typer(no_args_is_help=True, help="Rows that broke the contract: list them, release them, drop them.")
app.add_typer(quarantine, name="quarantine")
Rows = Annotated[list[str] | None, typer.Argument(help="Rows, by the ids that `list` shows.")]
Month = Annotated[str | None, typer.Option("--month", help="Only rows of this month, YYYY-MM.")]
All = Annotated[bool, typer.Option("--all", help="All rows, or all that the other options choose.")]
Containing = Annotated[str | None, typer.Option("--reason-contains", help="All rows with a reason like this.")]
Because = Annotated[str, typer.Option("--because", help="Why; kept beside the decision.")]


@quarantine.command("list")
def list_quarantine(
    month: Month = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only rows with a reason like this.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many rows.")] = 20,
    as_json: Json = False,
) -> None:
    """Rows in quarantine: how many for which reason, and the first of them."""
    from fraud_assets.adapters.console import show_quarantine
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.quarantine import list_rows

    with _clear_errors():
        listed = list_rows(open_store(_settings()).database, month, reason, limit)
        _print_json(listed) if as_json else show_quarantine(console, listed)


@quarantine.command("release")
def release(
    because: Because,
    rows: Rows = None,
    month: Month = None,
    everything: All = False,
    reason: Containing = None,
    as_json: Json = False,
) -> None:
    """Accept rows although they break a range, a category, a pattern or the longest label delay."""
    _decide("release", because, rows or [], month, everything, reason, as_json)


@quarantine.command("drop")
def drop(
    because: Because,
    rows: Rows = None,
    month: Month = None,
    everything: All = False,
    reason: Containing = None,
    as_json: Json = False,
) -> None:
    """Leave rows out for good; they no longer count against their month."""
    _decide("drop", because, rows or [], month, everything, reason, as_json)


def _decide(
    action: Literal["release", "drop"],
    because: str,
    rows: list[str],
    month: str | None,
    everything: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    from fraud_assets.adapters.console import show_decided
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.quarantine import choose_rows, decide
    from fraud_assets.workflows.refresh import open_stale
    from fraud_assets.workflows.status import as_row

    with _clear_errors():
        settings = _settings()
        store = open_store(settings)
        chosen = choose_rows(store.database, rows, month, reason, everything=everything)
        decided = decide(_graph(), settings, store, chosen, action, because, actor=getpass.getuser())
        outcome = decided.to_dict() | {"action": action, "stale": [as_row(one) for one in open_stale(settings)]}
        _print_json(outcome) if as_json else show_decided(console, outcome)
    if decided.remaining or decided.failed:
        raise typer.Exit(1)


labels = typer.Typer(no_args_is_help=True, help="Labels: add a file of them, and see how complete they are.")
app.add_typer(labels, name="labels")


@labels.command("add")
def add_labels(
    file: Annotated[Path, typer.Argument(help="A file of any kind with transaction_id and is_fraud.")],
    as_json: Json = False,
) -> None:
    """Take in a chargeback or analyst file: any time, any month, about any transaction, seen yet or not.

    Columns transaction_id and is_fraud (true, false or withdrawn), and where they are known label_timestamp (now when
    absent) and label_source (chargeback, analyst, customer_report); or the columns of the contract's label feed, or of
    its source. Rows that cannot be used are kept and named by reason, with what to do (each one with --json); the
    others are taken.
    """
    from datetime import UTC, datetime

    from fraud_assets.adapters.console import show_added
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.labels import add_file
    from fraud_assets.workflows.refresh import open_stale
    from fraud_assets.workflows.status import as_row

    with _clear_errors():
        settings = _settings()
        store = open_store(settings)
        added = add_file(_graph, settings, store, file, now=datetime.now(UTC))
        outcome = asdict(added) | {"stale": [as_row(one) for one in open_stale(settings)]}
        if as_json:
            _print_json(outcome)
        else:
            show_added(console, outcome)
    if added.refused or added.failed:
        raise typer.Exit(1)


@labels.command("completeness")
def label_completeness(
    month: Annotated[str | None, typer.Option("--month", help="YYYY-MM; the newest when absent.")] = None,
    as_json: Json = False,
) -> None:
    """How many frauds of each month are known at a month's end, and how many are expected still to come."""
    from fraud_assets.adapters.console import show_completeness
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.labels import completeness_rows, read_completeness

    with _clear_errors():
        store = open_store(_settings())
        found = read_completeness(store, _stored_month(store.months("fraud_labels"), month))
        if as_json:
            _print_json({"as_of": found.as_of, "months": completeness_rows(found)})
        else:
            show_completeness(console, found.as_of, completeness_rows(found))


def _stored_month(stored: Iterable[str], month: str | None) -> str:
    months = sorted(stored)
    if not months:
        raise ValueError("there are no labels yet; use `fraud run`")
    if month not in (None, *months):
        raise ValueError(f"there are no labels of {month}; there are some of {months[0]} to {months[-1]}")
    return month or months[-1]


db = typer.Typer(invoke_without_command=True, help="The database: prints its URL; --psql opens it, --query asks it.")
app.add_typer(db, name="db")


@db.callback()
def database(
    context: typer.Context,
    psql: Annotated[bool, typer.Option("--psql", help="Open psql.")] = False,
    query: Annotated[str | None, typer.Option("--query", help="Print the rows of a SQL query, tab-separated.")] = None,
    as_json: Json = False,
) -> None:
    """The database: prints its URL; --psql opens it, --query asks it."""
    if context.invoked_subcommand:
        return
    import psycopg

    from fraud_assets.adapters.postgres.database import embedded_binary, open_database

    with _clear_errors():
        url = open_database(_settings()).url
        if psql:
            raise typer.Exit(subprocess.call([embedded_binary("psql"), url]))  # noqa: S603 - our own binary
        if query is None:
            _print_json({"url": url}) if as_json else print(url)
            return
        try:
            with psycopg.connect(url, options="-c default_transaction_read_only=on") as connection:
                cursor = connection.execute(query.encode())
                rows = cursor.fetchall() if cursor.description else []
                names = [column.name for column in cursor.description or []]
        except psycopg.Error as error:
            raise ValueError(f"the database refused the query: {error}") from error
    if as_json:
        _print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        csv.writer(sys.stdout, delimiter="\t", lineterminator="\n").writerows(rows)


@db.command("stop")
def stop() -> None:
    """Stop the embedded PostgreSQL of this home."""
    from fraud_assets.adapters.postgres.database import stop_embedded

    with _clear_errors():
        settings = _settings()
        if settings.database_url:
            raise ValueError("FRAUD_DATABASE_URL names a server that this command did not start; stop it where it runs")
        print("stopped" if stop_embedded(settings.postgres_folder) else "was not running")


@app.command()
def dev() -> None:
    """Dagster UI with its daemon and sensors, and the MLflow UI, until Ctrl-C."""
    from fraud_assets.workflows.dev_servers import run_together

    with _clear_errors():
        settings = _settings()
        raise typer.Exit(run_together(settings))


@app.command()
def serve(
    port: Annotated[int | None, typer.Option("--port", help="Port; FRAUD_SERVE_PORT when absent.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the promoted model's bento over HTTP."""
    from fraud_assets.workflows.dev_servers import serve_champion

    with _clear_errors():
        settings = _settings()
        serve_champion(settings, port or settings.serve_port, host)


retraining = typer.Typer(no_args_is_help=True, help="Retraining: what was decided about each month, and why.")
app.add_typer(retraining, name="retraining")


@retraining.command("list")
def list_of_retrainings(
    month: Annotated[str | None, typer.Option("--month", help="Only decisions on this month, YYYY-MM.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """What the drift sensor decided about each month: when, what asked, why, and the run that it led to."""
    from fraud_assets.adapters.console import show_retrainings
    from fraud_assets.adapters.dagster_storage import open_instance
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.workflows.retraining import RetrainingStore, list_decisions

    with _clear_errors():
        settings = _settings()
        store = RetrainingStore(open_database(settings))
        with open_instance(settings) as instance:
            listed = list_decisions(store, instance, limit, month)
        _print_json(listed) if as_json else show_retrainings(console, listed)


alerts = typer.Typer(no_args_is_help=True, help="Alerts: what people were told of, and whether the channels work.")
app.add_typer(alerts, name="alerts")


@alerts.command("list")
def list_of_alerts(
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """What people were told of, on which channel, and what still waits or was given up."""
    from fraud_assets.adapters.console import show_alerts
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.workflows.alerts import AlertStore, list_alerts, open_channels

    with _clear_errors():
        settings = _settings()
        channels = open_channels(settings.alert_urls.get_secret_value()) if settings.alert_urls else []
        listed = list_alerts(AlertStore(open_database(settings)), channels, limit)
        _print_json(listed) if as_json else show_alerts(console, listed)


@alerts.command("test")
def try_channels(as_json: Json = False) -> None:
    """Send a test message to each channel of FRAUD_ALERT_URLS, and say which did not take it and why."""
    from fraud_assets.workflows.alerts import open_channels

    with _clear_errors():
        settings = _settings(create=False)
        channels = open_channels(settings.alert_urls.get_secret_value()) if settings.alert_urls else []
        if not channels:
            raise ValueError("FRAUD_ALERT_URLS names no channel; .env.example says how to set it")
        body = f"Alerts of contract {settings.loaded_contract.name} come here. Nothing has happened."
        errors = {channel.name: channel.send("[fraud] test", body) for channel in channels}
        if as_json:
            _print_json([{"channel": name, "error": error} for name, error in errors.items()])
        else:
            for name, error in errors.items():
                mark = "[green]\u2713[/]" if error is None else "[red]x[/]"
                said = escape(name if error is None else f"{name}: {error}")
                console.print(f"{mark} {said}", highlight=False, soft_wrap=True)
    if any(errors.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
