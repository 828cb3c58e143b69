"""What people see of a backtest: tables, a plot, and one page of both.

How months are replayed and judged belongs to `core/backtest`.
"""

from __future__ import annotations

import functools
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
from rich import box
from rich.console import Console
from rich.table import Table

from fraud_assets.core.backtest.judge import MONTH, TOTAL, BacktestError
from fraud_assets.core.reasons import joined, reasons_from_json
from fraud_assets.core.words import percent
from fraud_assets.pages import plots

PERCENT = "percent"  # of the forms of numbers, the one that Python writes otherwise
BELOW = "\n{}"  # intervals on a line of their own, for columns to fit a terminal


def show_backtest(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Each policy over all months, then month by month, and what was decided; readable in 80 columns."""
    totals = _of_kind(rows, TOTAL)
    compact = functools.partial(Table, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    summary = compact(title="All months together")
    summary.add_column("", no_wrap=True)
    for row in totals:
        summary.add_column(row["policy"], justify="right", no_wrap=True)
    summary.add_row("models trained", *(str(row["retrainings"]) for row in totals))
    summary.add_row("DRIFT / WATCH", *(f"{row['drift_alarms']} / {row['watch_alarms']}" for row in totals))
    for label, name, form in (
        ("average precision", "average_precision", ".3f"),
        ("  against never", "ap_difference", "+.3f"),
        ("value caught", "value_detection_rate", PERCENT),
        ("cost a day", "expected_cost", ",.0f"),
        ("  saved against never", "cost_saved", "+,.0f"),
    ):
        summary.add_row(label, *(_interval(row, name, form, BELOW) for row in totals))
    console.print(summary)
    months = compact(title="Month by month")
    for column in ("month", "policy", "trained"):
        months.add_column(column, no_wrap=True)
    for column in ("average\nprecision", "value\ncaught", "alerts\na day", "cost\na day", "drift"):
        months.add_column(column, justify="right", no_wrap=True)
    decided: list[str] = []
    before = None
    for row in sorted(_of_kind(rows, MONTH), key=lambda row: row["month"]):
        month = f"{row['month']:%Y-%m}"
        if before not in (None, month):
            months.add_section()
        before = month
        status = "unknown" if row["drift_status"] == "INSUFFICIENT_DATA" else row["drift_status"]
        months.add_row(
            month, row["policy"], row["trained_month"], _interval(row, "average_precision", ".3f", BELOW),
            _number(row["value_detection_rate"], PERCENT), _number(row["alerts_per_day"], ".0f"),
            _number(row["expected_cost"], ",.0f"), f"{status}\n{row['blame'] or ''}".rstrip(),
        )  # fmt: skip
        if said := joined(reasons_from_json(row["reasons"])):
            decided.append(f"{month} {row['policy']}: {'trained: ' if row['retrainings'] else ''}{said}")
    console.print(months)
    for line in decided:
        console.print(line, highlight=False)
    console.print(
        "A new model is live from the month after its training on, without waiting for the promotion gate. Judged on "
        "matured transactions with all labels known by now; below each figure its 95 % interval, differences paired.",
        style="dim",
    )


def backtest_picture(rows: Sequence[dict[str, Any]], form: plots.Form = "png") -> bytes:
    """The plot of a backtest's rows."""
    by_policy: dict[str, list[plots.PolicyMonth]] = {}
    for row in sorted(_of_kind(rows, MONTH), key=lambda row: row["month"]):
        by_policy.setdefault(row["policy"], []).append(
            plots.PolicyMonth(
                f"{row['month']:%Y-%m}",
                row["average_precision"],
                low=row["average_precision_low"],
                high=row["average_precision_high"],
                saved=row["cost_saved"],
                drifted=row["drift_status"] == "DRIFT",
                retrained=bool(row["retrainings"]),
            )
        )
    return plots.policies(by_policy, form)


def save_picture(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Writes the plot as PNG, as SVG, or as a page that shows it and needs nothing else.

    Raises:
        BacktestError: for a file of another kind.
    """
    form = file.suffix.lower().lstrip(".")
    if form == "png":
        file.write_bytes(backtest_picture(rows, "png"))
    elif form == "svg":
        file.write_bytes(backtest_picture(rows, "svg"))
    elif form == "html":
        drawn = backtest_picture(rows, "svg").decode()
        console = Console(file=io.StringIO(), record=True, width=170)
        show_backtest(console, rows)
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Backtest</title>'
            f'<body style="font-family: sans-serif; margin: 2em">{drawn[drawn.index("<svg") :]}'
            f'<pre style="font-size: 12px">{html.escape(console.export_text())}</pre></body></html>\n'
        )
        file.write_text(page, encoding="utf-8")
    else:
        raise BacktestError(f"{file} ends with {file.suffix or 'nothing'}; plots are written as .png, .svg or .html")


def save_rows(rows: pa.Table, file: Path) -> None:
    """Writes the rows as CSV."""
    pyarrow.csv.write_csv(rows, file)


def summary_in_words(rows: Sequence[dict[str, Any]]) -> str:
    """Each policy over all months, as a Markdown table."""
    columns = ("policy", "models trained", "DRIFT", "WATCH", "average precision", "value caught", "cost a day", "saved")
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in _of_kind(rows, TOTAL):
        cells = (
            row["policy"], str(row["retrainings"]), str(row["drift_alarms"]), str(row["watch_alarms"]),
            _interval(row, "average_precision", ".3f"), _interval(row, "value_detection_rate", PERCENT),
            _interval(row, "expected_cost", ",.0f"), _interval(row, "cost_saved", "+,.0f"),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _of_kind(rows: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def _interval(row: dict[str, Any], name: str, form: str, between: str = " ({})") -> str:
    """The figure and its interval, which is put into `between`; the figure alone where there is none."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return _number(value, form)
    return _number(value, form) + between.format(f"{_number(low, form)} to {_number(high, form)}")


def _number(value: float | None, form: str) -> str:
    if value is None:
        return "\u2013"
    return percent(value) if form is PERCENT else f"{value:{form}}"
