"""Which stored months a backtest takes, and the files that are written of it."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from rich.console import Console

from fraud_assets.core.backtest.judge import BacktestError
from fraud_assets.core.backtest.replay import parse_policies
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.pages.backtest import save_picture, save_rows, show_backtest, summary_in_words
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows import backtest as module
from fraud_assets.workflows.backtest import backtest_stored
from fraud_assets_tests.sentences import stored

CONTRACT = load_contract(PROJECT_ROOT / "contracts" / "simulator.yaml")
SCHEMA = TABLES["backtest"](CONTRACT).schema


class Store:
    """A store with some months, one row each."""

    contract = CONTRACT

    def __init__(self, **months: list[str]) -> None:
        self.stored = months

    def months(self, name: str) -> dict[str, str]:
        return dict.fromkeys(self.stored.get(name, []), "digest")


@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        ([], [], r"2025-02, 2025-03, 2025-04 cannot be replayed: .* there are none yet.*fraud run"),
        (
            ["2025-01", "2025-02", "2025-03"],
            ["2025-01", "2025-02", "2025-03"],
            r"^2025-04 cannot .* 2025-01 to 2025-03",
        ),
        (["2025-01", "2025-02", "2025-03", "2025-04"], ["2025-01", "2025-02"], r"^2025-03, 2025-04 cannot"),
        (
            ["2025-03", "2025-04"],
            ["2025-03", "2025-04"],
            r"^2025-02 cannot .*trained as of the end of the month before",
        ),
        # Nothing behind a gap: features of later months were made without it.
        (["2025-01", "2025-03", "2025-04"], ["2025-01", "2025-03", "2025-04"], r"^2025-02, 2025-03, 2025-04 cannot"),
    ],
)
def test_months_that_are_not_stored_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, features: list[str], labels: list[str], said: str
) -> None:
    monkeypatch.setattr(module, "open_store", lambda _: Store(transaction_features=features, fraud_labels=labels))
    with pytest.raises(BacktestError, match=said):
        backtest_stored(Settings(), "2025-03", "2025-04", parse_policies("never"))


# Files


def row(month: int, kind: str, policy: str, **given: Any) -> dict[str, Any]:
    intervals = {
        "average_precision": (0.8, 0.7, 0.9), "value_detection_rate": (0.9, 0.85, 0.95),
        "expected_cost": (1500.0, 1200.0, 1800.0), "ap_difference": (0.01, -0.01, 0.03),
        "cost_saved": (97.0, 72.0, 122.0),
    }  # fmt: skip
    return {
        "month": dt.date(2025, month, 1), "kind": kind, "policy": policy, "trained_month": "2025-02",
        "drift_status": "OK", "blame": None, "retrainings": 0, "drift_alarms": 0, "watch_alarms": 0, "reasons": "[]",
        "n": 1000, "n_fraud": 10, "alerts_per_day": 99.6,
        **{f"{name}{end}": one for name, three in intervals.items()
           for end, one in zip(("", "_low", "_high"), three, strict=True)},
        **given,
    }  # fmt: skip


ROWS = [
    row(3, "month", "never"),
    row(4, "month", "never", drift_status="DRIFT", blame="world", drift_alarms=1),
    row(4, "total", "never", drift_alarms=1),
    row(3, "month", "on-drift", drift_status="DRIFT", retrainings=1, reasons=stored("the report says DRIFT")),
    row(4, "month", "on-drift", **{f"average_precision{end}": None for end in ("", "_low", "_high")}, cost_saved=None),
    row(4, "total", "on-drift", retrainings=1, cost_saved_low=None),
]


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".html", b"<!doctype html>")]
)
def test_a_plot_is_written_as_what_the_file_is_called_and_the_same_each_time(
    tmp_path: Path, suffix: str, begins: bytes
) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for file in files:
        save_picture(ROWS, file)
    assert files[0].read_bytes().startswith(begins)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_page_shows_plot_and_tables_and_fetches_nothing(tmp_path: Path) -> None:
    save_picture(ROWS, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "the report says DRIFT" in page
    assert not any(word in page for word in ("src=", "<link", "@import", "<script"))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BacktestError, match=r"ends with .pdf; plots are written as .png, .svg or .html"):
        save_picture(ROWS, tmp_path / "plot.pdf")


def test_the_rows_are_written_as_csv_with_what_is_not_known_left_empty(tmp_path: Path) -> None:
    save_rows(pa.Table.from_pylist(ROWS, schema=SCHEMA), tmp_path / "rows.csv")
    written = pyarrow.csv.read_csv(tmp_path / "rows.csv")
    assert written.column_names == SCHEMA.names
    assert written["average_precision"].to_pylist() == [0.8, 0.8, 0.8, 0.8, None, 0.8]


def test_the_screen_shows_totals_with_intervals_and_each_month_with_what_was_decided() -> None:
    text = io.StringIO()
    show_backtest(Console(file=text, width=200), ROWS)
    lines = [" ".join(line.replace("\u2502", " ").split()) for line in text.getvalue().splitlines()]
    assert "models trained 0 1" in lines
    assert "DRIFT / WATCH 1 / 0 0 / 0" in lines
    place = lines.index("saved against never +97 +97")
    assert lines[place + 1] == "+72 to +122"  # without an interval only the value
    assert any(line.startswith("2025-04 on-drift 2025-02 \u2013 90.0 %") for line in lines)
    assert [line for line in lines if line.endswith("the report says DRIFT")] == [
        "2025-03 on-drift: trained: the report says DRIFT"
    ]


def test_the_screen_is_readable_in_a_terminal_of_80_columns() -> None:
    text = io.StringIO()
    unknown = row(5, "month", "never", drift_status="INSUFFICIENT_DATA")
    show_backtest(Console(file=text, width=80), [*ROWS, unknown, row(5, "total", "monthly")])
    shown = text.getvalue()
    assert "\u2026" not in shown  # nothing is cut
    assert max(len(line) for line in shown.splitlines()) <= 80
    words = ("on-drift", "2025-04", "saved against never", "-0.010 to +0.030", "DRIFT", "world", "unknown")
    assert [word for word in words if word not in shown] == []


def test_the_summary_of_the_asset_has_a_line_a_policy() -> None:
    head, rule, *lines = summary_in_words(ROWS).splitlines()
    assert head.count("|") == rule.count("|") == 9
    assert [line.split(" | ")[0] for line in lines] == ["| never", "| on-drift"]
