"""Other people's files, as a newcomer brings them along: from the file alone to a live model, or to why there is none.

Two things are measured for each set. `fraud start FILE --yes` in a fresh copy of the project: where it ends, how long
it takes, what the live threshold found and cost, and what the drift reports said. And, on the contract that it drafted,
average precision out of time: the platform beside the better of plain boosting and a one-hot logistic regression on the
same columns (`tabular.py`), trained on the first three quarters of the time and judged on the last, one split for all.

    python -m benchmarks.datasets [--data FILE_OR_FOLDER [--contract FILE]] [--only NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from benchmarks.reporting import Row, argument_parser, at_most, report
from benchmarks.tabular import (
    ProtocolError,
    Rows,
    ap_difference,
    boosting_scores,
    logistic_scores,
    platform_scores,
    raw_columns,
    read_rows,
    split,
)
from fraud_assets.core.contracts.contract import Contract, load_contract
from fraud_assets.core.models.training import TrainingError
from fraud_assets.core.statistics.metrics import average_precision
from fraud_assets.settings import PROJECT_ROOT

SHARED = PROJECT_ROOT.parent / "shared" / "data"
SETS = {
    "evalml": "evalml_card_transactions/fraud_transactions.csv.gz",
    "claims": "aws_coldstart/Insurance_FraudulentAutoInsuranceClaims_2K_coldstart.csv",
    "transactions": "aws_coldstart/transaction_data_2K_coldstart.csv",
    "registrations": "registrations/registrations.csv",
    "online": "ms_online_fraud/Fraud_Transactions.csv",
    "handbook": "handbook",
}
SECONDS = {"evalml": 120.0}
TESTED = 0.25  # of the time, the newest
COMMAND = (sys.executable, "-c", "from fraud_assets.cli import app; app()")
OWN = (".venv*", ".git", ".fraud", ".env", ".env.[!e]*", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "tmp")
FOUND = {
    "recall_at_threshold": "recall",
    "precision_at_threshold": "precision",
    "alerts_per_day": "alerts_a_day",
    "value_detection_rate": "value_caught",
    "expected_cost": "cost_a_day",
    "cost_without_review": "cost_a_day_without_reviews",
}


@dataclass(frozen=True)
class Ended:
    """Where `fraud start` ended.

    Attributes:
        seconds: from its start to its exit.
        code: its exit code.
        said: `version N is live`, or why there is none.
        version: the live model's; None where there is none.
        evaluation: the newest row of `evaluation` about it; None where it was not judged.
        verdicts: the months whose drift report is DRIFT or WATCH, with status, blame and reasons.
        months: months that were run.
        contract: what was drafted.
    """

    seconds: float
    code: int
    said: str
    version: int | None
    evaluation: dict[str, Any] | None
    verdicts: list[str]
    months: int
    contract: Contract | None


# --- A newcomer's run -----------------------------------------------------------------------------------------


@contextmanager
def fresh_project() -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy of the project with an empty home, and the environment to run it in; gone at the end."""
    with tempfile.TemporaryDirectory(prefix="fraud-datasets-") as folder:
        project, home = Path(folder) / "project", Path(folder) / "home"
        shutil.copytree(PROJECT_ROOT, project, ignore=shutil.ignore_patterns(*OWN))
        mine = ("FRAUD_", "DAGSTER_", "MLFLOW_", "BENTOML_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        environment |= {"FRAUD_HOME": str(home)}
        try:
            yield project, environment
        finally:
            _run(project, environment, "db", "stop")


def _run(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def start(data: Path, contract: Path | None) -> Ended:
    """Runs `fraud start DATA --yes`, or `fraud run` with a contract that is given, and looks at what is there then."""
    with fresh_project() as (project, environment):
        began = time.monotonic()
        if contract is None:
            done = _run(project, environment, "start", str(data), "--yes", "--json")
        else:
            environment |= {
                "FRAUD_CONTRACT": str(contract),
                "FRAUD_SOURCE": "files",
                "FRAUD_SOURCE_PATH": str(data if data.is_dir() else data.parent),
            }
            done = _run(project, environment, "run", "--json")
        seconds = time.monotonic() - began
        try:
            outcome = json.loads(done.stdout)
        except json.JSONDecodeError:
            said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "nothing was said"
            return Ended(seconds, done.returncode, said, None, None, [], 0, None)
        used = load_contract(contract or Path(outcome["contract"]))
        months = outcome.get("months") or []
        status = _status(project, environment)
        champion = status.get("champion") if status else None
        said = outcome.get("ended") or (f"version {champion['version']} is live" if champion else _why(status))
        return Ended(
            seconds,
            done.returncode,
            # Results are published, without the folder in which they came about.
            said.replace(f"{project.resolve()}/", "").replace(f"{project}/", ""),
            champion["version"] if champion else None,
            champion["evaluation"] if champion else None,
            _verdicts(project, environment) if months else [],
            len(months),
            used,
        )


def _status(project: Path, environment: dict[str, str]) -> dict[str, Any] | None:
    done = _run(project, environment, "status", "--json")
    return json.loads(done.stdout) if done.returncode == 0 else None


def _why(status: dict[str, Any] | None) -> str:
    return "; ".join(remark["sentence"] for remark in (status or {}).get("why", [])) or "nothing was said"


VERDICTS = """
SELECT to_char(month, 'YYYY-MM') AS month, drift_status, coalesce(blame, 'nobody') AS blame,
    (SELECT string_agg(one ->> 'text', '; ') FROM jsonb_array_elements(reasons::jsonb) AS one) AS reasons
FROM drift_report
WHERE kind = 'verdict' AND drift_status IN ('DRIFT', 'WATCH') ORDER BY month
"""


def _verdicts(project: Path, environment: dict[str, str]) -> list[str]:
    done = _run(project, environment, "db", "--query", VERDICTS, "--json")
    return ["{month} {drift_status}, blames {blame}: {reasons}".format(**row) for row in json.loads(done.stdout)]


# --- Out of time, beside plain models ---------------------------------------------------------------------------


def last_quarter(rows: Rows, contract: Contract) -> date:
    """The day from which on a model is judged."""
    first, last = pc.min_max(rows.transactions["event_timestamp"]).as_py().values()
    start: datetime = last - TESTED * (last - first)
    return start.astimezone(contract.zone).date()


def compared(name: str, data: Path, contract: Contract) -> list[Row]:
    """Average precision of the platform and of the better plain model, on the rows of the last quarter.

    Returns:
        One row that says why, where no model can be compared.
    """
    if data.is_dir():
        # Of the sets here, the Handbook's months: a million rows, for which there is the published protocol.
        return [Row(f"{name}_ap", "several files are not compared here; for the Handbook see bench-handbook", "")]
    try:
        rows = read_rows(data, contract)
        cut = split(rows, contract, last_quarter(rows, contract))
        ours = platform_scores(rows, contract, cut)
    except (ProtocolError, TrainingError) as error:
        return [Row(f"{name}_ap", f"no comparison: {error}", "")]
    raw = raw_columns(rows, contract, cut.training)
    plain = {"logistic": logistic_scores(raw, cut), "boosting": boosting_scores(raw, cut)}
    reached = {kind: average_precision(cut.truth, score) for kind, score in plain.items()}
    better = max(reached, key=lambda kind: reached[kind])
    ap = average_precision(cut.truth, ours.score)
    difference = ap_difference(rows, contract, cut, plain[better], ours.score)
    # Level within its interval is level; the interval is of the difference on the same rows.
    holds = ap >= reached[better] or (difference.is_known and difference.high >= 0)
    return [
        Row(f"{name}_test_n", float(len(cut.truth)), "rows"),
        Row(f"{name}_test_n_fraud", float(cut.truth.sum()), "rows"),
        Row(f"{name}_ap", ap, ""),
        *(Row(f"{name}_ap_{kind}", value, "") for kind, value in reached.items()),
        Row(f"{name}_ap_over_better", ap / reached[better], "times", 1.0, holds),
        *(Row(f"{name}_ap_minus_better{end}", value, "") for end, value in _ends(difference)),
        Row(f"{name}_family", ours.family, ""),
    ]


def _ends(difference: Any) -> list[tuple[str, float]]:
    known = [("_low", difference.low), ("_high", difference.high)] if difference.is_known else []
    return [("", difference.value), *known]


# --- The table --------------------------------------------------------------------------------------------------


def figures(name: str, data: Path, contract: Path | None) -> list[Row]:
    """All rows of a set."""
    ended = start(data, contract)
    print(f"\n{name}: {ended.said}", file=sys.stderr)
    for verdict in ended.verdicts:
        print(f"  {verdict}", file=sys.stderr)
    limit = SECONDS.get(name)
    rows = [
        Row(f"{name}_ended", ended.said, "", "a live model, or why not", ended.code == 0),
        at_most(f"{name}_seconds", ended.seconds, "s", limit) if limit else Row(f"{name}_seconds", ended.seconds, "s"),
        Row(f"{name}_months", float(ended.months), "months"),
        Row(f"{name}_months_drift_or_watch", float(len(ended.verdicts)), "months"),
        *(Row(f"{name}_verdict_{number}", text, "") for number, text in enumerate(ended.verdicts, 1)),
    ]
    if ended.evaluation is not None:
        found = {name: ended.evaluation.get(name) for name in FOUND}
        rows += [Row(f"{name}_{FOUND[key]}", float(value), "") for key, value in found.items() if value is not None]
        cost, nobody = found["expected_cost"], found["cost_without_review"]
        if cost is not None and nobody:
            rows.append(at_most(f"{name}_cost_over_no_reviews", cost / nobody, "times", 1.0))
    if ended.contract is not None and ended.contract.label.column is not None:
        rows += compared(name, data, ended.contract)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("Other people's files: from the file alone to a live model, and out of time.")
    parser.add_argument(
        "--data", type=Path, help="a file or folder of your own, instead of the sets beside the project"
    )
    parser.add_argument("--contract", type=Path, help="its contract; drafted when absent")
    parser.add_argument("--only", nargs="+", choices=sorted(SETS), help="some of the sets")
    options = parser.parse_args(arguments)
    chosen = _chosen(options, parser)
    rows = [row for name, (data, contract) in chosen.items() for row in figures(name, data, contract)]
    return report("datasets" if options.data is None else f"datasets_{next(iter(chosen))}", rows, options.json)


def _chosen(options: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, tuple[Path, Path | None]]:
    if options.data is not None:
        if not options.data.exists():
            parser.error(f"there is no file or folder {options.data}")
        stem = options.data.name.split(".")[0].lower()
        return {stem: (options.data.resolve(), options.contract.resolve() if options.contract else None)}
    there = {name: SHARED / path for name, path in SETS.items() if not options.only or name in options.only}
    if absent := [name for name, path in there.items() if not path.exists()]:
        print(f"\n*** SKIPPED: {', '.join(absent)}, which are not in {SHARED}. ***\n", file=sys.stderr)
    found: dict[str, tuple[Path, Path | None]] = {name: (path, None) for name, path in there.items() if path.exists()}
    if not found:
        parser.error(f"none of the sets is in {SHARED}; name a file or folder with --data")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
