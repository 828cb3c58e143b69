"""What all commands share: the settings, the graph, errors as a sentence, JSON."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fraud_assets.core.errors import PlatformError, disk_is_full
from fraud_assets.settings import Settings, read_settings

if TYPE_CHECKING:
    import dagster as dg

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Months of transactions in, a served fraud model out.",
)

console = Console()


@app.callback()
def enter() -> None:
    """What holds for every command; the app's own help is shown."""
    # A notebook names its kernel's backend to all that it starts, and matplotlib refuses one that is not installed.
    # Nothing here draws on a screen.
    os.environ.pop("MPLBACKEND", None)


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@contextmanager
def clear_errors() -> Iterator[None]:
    """An error that a user can fix becomes a sentence; any other keeps its traceback."""
    try:
        yield
    except (ValueError, PlatformError) as error:
        _tell_error(disk_is_full(error) or str(error))
        raise typer.Exit(getattr(error, "exit_code", 1)) from error
    except KeyboardInterrupt as error:
        # Without a sentence where nothing was under way. 130 is what shells say of a Ctrl-C.
        if said := str(error):
            Console(stderr=True).print(f"[bold]stopped:[/] {escape(said)}", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from error
    except Exception as error:
        if (full := disk_is_full(error)) is None:
            raise
        _tell_error(full)
        raise typer.Exit(1) from error


def _tell_error(said: str) -> None:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(said)}", highlight=False, soft_wrap=True)


def open_settings(*, create: bool = True) -> Settings:
    """The settings; creates their folder, and names a setting that cannot be used."""
    try:
        settings = read_settings()
        if create:
            settings.workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"FRAUD_HOME cannot be used: {error}; name a folder that you may write to") from error
    # Left by a restore: one that is under way, or that was killed.
    if (settings.workspace / ".restore").is_dir():
        from fraud_assets.workflows.backups.restore import settle_restore

        settle_restore(settings, actor=getpass.getuser())
    return settings


def graph(settings: Settings) -> dg.JobDefinition:
    """The job that holds every asset, working on the settings of this command."""
    from fraud_assets.definitions import build_definitions

    return build_definitions(settings).resolve_implicit_global_asset_job_def()


def print_json(value: Any) -> None:
    """Prints what a program reads: times in ISO 8601, paths as text."""
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
