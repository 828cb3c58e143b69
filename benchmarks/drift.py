"""Drift: how often the platform's report is wrong, what it finds, and what it costs, beside its peers.

Months in which nothing changed (of the Handbook, and simulated, half of them with shocks that all customers share) give
the false alarms; the same months with one change put in what is found, and whether it is called what it is. The report
is the platform's own, `monitoring.report_month`, on months that lie in memory. evidently, NannyML and plain tests see
the same columns of the same windows, see `drift_peers.py`.

    python -m benchmarks.drift [--data DIR] [--worlds N] [--asked N] [--keep DIR] [--quick] [--json FILE]

All of it takes a hundred minutes on two cores. With `--keep` (`make bench-drift KEEP=DIR`), the worlds that are done
when it is interrupted are not judged again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from benchmarks.drift_worlds import (
    CHANGED,
    CHANGES,
    CUSTOMERS,
    FEATURES,
    FILLED,
    LABELS,
    RAW,
    ROWS,
    TESTS,
    TRAINED,
    Change,
    Plan,
    World,
    changed_world,
    handbook_world,
    simulated_world,
)
from benchmarks.handbook import HANDBOOK
from benchmarks.reporting import Row, argument_parser, at_least, at_most, report
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.drift.findings import SCORE, Finding
from fraud_assets.core.drift.history_columns import history_columns, with_history_columns
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.evaluation.segments import segment_attributes
from fraud_assets.core.features.declarations import feature_days
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models.scoring import ModelManifest, Scorer, digest_model
from fraud_assets.core.models.training import train
from fraud_assets.core.models.training_config import GRID, TrainingConfig
from fraud_assets.core.monitoring.month import CALENDAR_FEATURES, MonthReport, report_month
from fraud_assets.core.monitoring.plan import Champion, EarlierReport, Subject, plan_report
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.statistics.metrics import Costs, average_precision
from fraud_assets.core.windows import Window, month_window
from fraud_assets.settings import PROJECT_ROOT

CONTRACTS = PROJECT_ROOT / "contracts"
PEERS = PROJECT_ROOT / ".venv-peers" / ("Scripts" if os.name == "nt" else "bin") / "python"
TOOLS = ("evidently", "nannyml", "tests", "psi")
JUDGES = ("evidently_month", *TOOLS)
WORLDS = 20  # of ten months each
# Of the first world. No limit and no rule of the report was ever chosen on these: those before 200 were looked at while
# it was built. Worlds that a rule was chosen on are no test of it; choose other seeds then.
FIRST_SEED = 1000
ASKED = 2  # of whose changes the peers are asked, who take ten times as long: one without and one with shocks
LEAST_TESTS = 5
SMALL = CUSTOMERS // 10
# One boosting of few trees: what is measured is not the model.
TRAINING = TrainingConfig(
    families=("hist_gradient_boosting",),
    grid=tuple(setting for setting in GRID if setting.name in ("C=1", "15 leaves")),
    blocks=1,
    maximum_trees=60,
    maximum_genuine=50_000,
)

FALSE_DRIFT_RATE, FALSE_WATCH_RATE = 0.01, 0.05
DETECTION_RATE, CAUSE_RATE = 0.95, 0.90
ESTIMATE_COVERAGE = 0.90
MONTH_SECONDS, EVIDENTLY_OVER_OURS, NANNYML_OVER_OURS = 5.0, 3.0, 1.2


Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A month that is reported on.

    Attributes:
        world: which.
        group: `handbook`, `plain`, `shocked` or `small`.
        month: the one under report.
        change: what was put into it; None where nothing was.
    """

    world: str
    group: str
    month: str
    change: Change | None = None


@dataclass(frozen=True)
class Outcome:
    """What was said of a month.

    Attributes:
        case: the month.
        status, blame: the verdict's.
        moved: the findings that are WATCH or DRIFT.
        seconds: that the report took.
        estimate: the AP that the report estimates for the month's transactions whose labels have not matured, and the
            bounds of its interval; None where it says that it does not know.
        truth: what that AP came out as; None where there are no such transactions, or no frauds among them.
        cbpe: the AP that NannyML's CBPE estimates for them; None where it was not asked.
        peers: by tool, the columns it calls drifted, and `columns`, all that they saw; empty where they were not asked.
    """

    case: Case
    status: str
    blame: str | None
    moved: tuple[Finding, ...]
    seconds: float
    estimate: tuple[float, float, float] | None
    truth: float | None
    cbpe: float | None = None
    peers: Mapping[str, Sequence[str]] = field(default_factory=dict)


# --- Ours -----------------------------------------------------------------------------------------------------


def champion_of(world: World, first: str, last: str) -> Champion:
    """A model as it is trained at the end of a month, on the months since another one.

    It takes the features whose windows are full when the first month begins.
    """
    contract = world.contract
    as_of = contract.month_end(last)
    begin = contract.month_start(first)
    names = tuple(
        name for name, days in feature_days(contract).items() if world.first_event + timedelta(days=days) <= begin
    )
    features = world.read(FEATURES, None, first, last)
    labels = labels_as_of(
        features, world.read(LABELS, None, world.first, last), as_of, maturity_days=contract.maturity_days
    )
    result = train(features, labels, names, maturity_days=contract.maturity_days, config=TRAINING, card=contract.card)
    onnx = to_onnx(result.chosen.estimator, len(result.encoder.columns))
    manifest = ModelManifest(
        model_name="benchmark",
        model_version=1,
        trained_month=last,
        as_of=as_of.isoformat(),
        features=result.encoder.inputs,
        encoder=result.encoder,
        threshold=result.chosen.threshold,
        family=result.chosen.family,
        contract_yaml=(CONTRACTS / f"{contract.name}.yaml").read_text(encoding="utf-8"),
        model_digest=digest_model(onnx),
        training_from=result.training_from,
        training_to=result.training_to,
    )
    return Champion(Scorer(onnx, manifest), result.validation)


@dataclass
class Reporter:
    """Reports on the months of a world in their order, as the platform does.

    Attributes:
        champion: the model that all reports are about.
        config: limits of the tests.
        costs: of reviews and missed frauds.
        said: the reports so far, by month.
        reference: what the last one compared with.
    """

    champion: Champion
    config: DriftConfig = field(default_factory=DriftConfig)
    costs: Costs = field(default_factory=Costs)
    said: dict[str, EarlierReport] = field(default_factory=dict)
    reference: Window | None = None

    def report(self, world: World, month: str) -> tuple[MonthReport, float]:
        """The report of a month, and the seconds it took."""
        subject = Subject(
            month=month,
            current=world.tables[FEATURES, month],
            champion=self.champion,
            first_event=world.first_event,
            earlier=self.said,
            contract=world.contract,
        )
        rows = world.rows
        started = time.monotonic()
        found = report_month(plan_report(subject, rows), rows, config=self.config, costs=self.costs)
        seconds = time.monotonic() - started
        self.reference = found.reference
        self.said[month] = EarlierReport(found.champion_version, found.verdict.drift_status, found.findings)
        return found, seconds


def outcome(found: tuple[MonthReport, float], world: World, champion: Champion, case: Case) -> Outcome:
    """What a report says, beside what came out."""
    (verdict, findings), seconds = (found[0].verdict, found[0].findings), found[1]
    moved = tuple(finding for finding in findings if finding.status in ("WATCH", "DRIFT"))
    scores, fraud = unmatured(world, champion, case.month)
    return Outcome(
        case,
        verdict.drift_status,
        verdict.blame,
        moved,
        seconds,
        estimated(findings),
        average_precision(fraud, scores) if fraud.any() else None,
    )


def estimated(findings: Iterable[Finding]) -> tuple[float, float, float] | None:
    """The AP that a report estimates, and the bounds of its interval."""
    for one in findings:
        if one.kind == "estimate" and one.feature == "average_precision":
            if one.value_current is None or one.value_low is None or one.value_high is None:
                return None
            return one.value_current, one.value_low, one.value_high
    return None


def unmatured(world: World, champion: Champion, month: str) -> tuple[Floats, Bools]:
    """The scores of a month's transactions whose labels have not matured at its end, and which of them are frauds."""
    contract = world.contract
    limit = contract.month_end(month) - timedelta(days=contract.maturity_days)
    features = world.tables[FEATURES, month]
    young = pc.greater(features["event_timestamp"], pa.scalar(limit, features["event_timestamp"].type))
    features, rows = features.filter(young), world.tables[ROWS, month]
    places = pc.index_in(features["transaction_id"], value_set=rows["transaction_id"].combine_chunks())
    fraud = rows["is_fraud"].take(places).to_numpy().astype(np.bool_)
    return champion.scorer.score(features), fraud


def names_it(said: Outcome) -> bool:
    """Whether a changed month that drifted is called what it is: by its blame, and by a finding's kind and cause."""
    change = said.case.change
    if change is None:
        return False
    named = {(finding.kind, finding.cause) for finding in said.moved if finding.status == "DRIFT"}
    return said.status == "DRIFT" and said.blame == change.blame and bool(named & change.named)


def compared_columns(world: World, champion: Champion, window: Window, identifiers: Sequence[str] = ()) -> pa.Table:
    """What the report compares of a part of a month or of several, as peers take it.

    Args:
        world: gives the rows.
        champion: gives the score.
        window: the part.
        identifiers: further columns of the features.
    """
    contract = world.contract
    first, last = contract.month_of(window.start), contract.month_of(window.end - timedelta(microseconds=1))
    before = world.read(FEATURES, None, shift_month(first, -1), last)
    rows = with_history_columns(before, contract)
    moment = rows["event_timestamp"]
    rows = rows.filter(
        pc.and_(
            pc.greater_equal(moment, pa.scalar(window.start, moment.type)),
            pc.less(moment, pa.scalar(window.end, moment.type)),
        )
    )
    names = [name for name in champion.scorer.manifest.features if name not in CALENDAR_FEATURES]
    names += history_columns(contract)
    table = rows.select([*identifiers, *names])
    table = table.append_column(SCORE, pa.array(champion.scorer.score(rows)))
    raw = world.read(RAW, None, first, last)
    places = pc.index_in(rows["transaction_id"], value_set=raw["transaction_id"].combine_chunks())
    # Those that the model is given as text are there already.
    for name in segment_attributes(contract):
        if name not in table.column_names:
            table = table.append_column(name, raw[name].take(places))
    return table


# --- Worlds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A world to report on.

    Attributes:
        plan: of the world.
        group: see `Outcome`.
        peers: the interpreter of the peers, for them to be asked about the month before the changes, and the changes;
            None to ask about none.
        keep: folder of outcomes from before; None keeps none.
    """

    plan: Plan
    group: str
    peers: Path | None
    keep: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.group} {self.plan.seed}"


def judge_task(task: Task) -> list[Outcome]:
    """`judge_world`, or what it said before."""
    if task.keep is None:
        return judge_world(task)
    kept = task.keep / f"{task.name}, {task.plan.tests} months, {'with' if task.peers else 'without'} peers.pickle"
    if not kept.exists():
        said = judge_world(task)
        task.keep.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(pickle.dumps(said))
        partial.rename(kept)
    before: list[Outcome] = pickle.loads(kept.read_bytes())
    return before


def judge_world(task: Task) -> list[Outcome]:
    """Reports on the months of a simulated world, and on those of its changes."""
    world = simulated_world(task.plan, load_contract(CONTRACTS / "simulator.yaml"))
    reporter = Reporter(champion_of(world, FILLED, TRAINED))
    said: list[Outcome] = []
    asked: dict[Case, World] = {}
    until_change: dict[str, EarlierReport] = {}

    def judge(of: World, month: str, change: Change | None = None) -> None:
        case = Case(task.name, task.group, month, change)
        said.append(outcome(reporter.report(of, month), of, reporter.champion, case))
        # The peers have no memory: they are asked when the change begins, and once where nothing changes.
        if month == CHANGED and (change is None or change.peers):
            asked[case] = of

    for month in task.plan.tested:
        if month == CHANGED:
            until_change = dict(reporter.said)
        judge(world, month)
    for change in CHANGES:
        changed = changed_world(world, change, task.plan.seed)
        reporter.said = dict(until_change)
        for month in months_between(CHANGED, change.judged):
            judge(changed, month, change)
    if task.peers is None:
        return said
    answers = ask_peers(task.peers, reporter, world, asked)
    return [replace(one, **answers.get(one.case, {})) for one in said]


def judge_handbook(data: Path, peers: Path | None) -> list[Outcome]:
    """Reports on each pair of Handbook months from May on, the earlier one being what the champion learned from."""
    world = handbook_world(data, load_contract(CONTRACTS / "handbook.yaml"))
    months = [month for name, month in world.tables if name == FEATURES and month >= "2018-05"]
    said = []
    for reference in months[:-1]:
        reporter = Reporter(champion_of(world, reference, reference))
        pairs = [
            Case(f"handbook {reference}", "handbook", month)
            for month in months_between(shift_month(reference, 1), months[-1])
        ]
        outcomes = [outcome(reporter.report(world, pair.month), world, reporter.champion, pair) for pair in pairs]
        answers = ask_peers(peers, reporter, world, dict.fromkeys(pairs, world)) if peers is not None else {}
        said += [replace(one, **answers.get(one.case, {})) for one in outcomes]
    return said


def ask_peers(
    interpreter: Path, reporter: Reporter, world: World, cases: Mapping[Case, World]
) -> dict[Case, dict[str, Any]]:
    """What the peers say of some months: the `peers` and the `cbpe` of their outcomes.

    Args:
        interpreter: theirs.
        reporter: has reported on the months; gives the reference and the champion.
        world: what the reference is taken from.
        cases: the months, and the worlds that they are taken from.
    """
    champion, reference = reporter.champion, reporter.reference
    if reference is None:
        return {}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pq.write_table(compared_columns(world, champion, reference), folder / "reference.parquet")
        threshold = champion.scorer.manifest.threshold
        if champion.promise is not None:
            promise = champion.promise
            pq.write_table(
                _predictions(promise["score"].to_numpy(), threshold, promise["is_fraud"]), folder / "promise.parquet"
            )
        for number, (case, of) in enumerate(cases.items()):
            pq.write_table(
                compared_columns(of, champion, month_window(case.month, of.contract.zone)),
                folder / f"current {number}.parquet",
            )
            if champion.promise is not None:
                scores, _ = unmatured(of, champion, case.month)
                # Of a month that ends early everything has matured, and there is nothing to estimate.
                if len(scores) == 0:
                    continue
                pq.write_table(_predictions(scores, threshold), folder / f"scores {number}.parquet")
        said = run_peers(interpreter, folder)
    return {
        case: {"peers": said[f"current {number}"], **said.get(f"scores {number}", {})}
        for number, case in enumerate(cases)
    }


def _predictions(scores: Floats, threshold: float, fraud: pa.ChunkedArray | None = None) -> pa.Table:
    """Scores as NannyML takes them."""
    table = pa.table({"y_pred_proba": scores, "y_pred": (scores >= threshold).astype(np.int64)})
    return table if fraud is None else table.append_column("y_true", fraud.cast(pa.int64()))


def run_peers(interpreter: Path, folder: Path, *tools: str) -> dict[str, dict[str, Any]]:
    """Runs `drift_peers.py` on a folder, in a process of its own."""
    # -P, because `platform.py` beside it is not the standard library's.
    command = [str(interpreter), "-P", str(Path(__file__).with_name("drift_peers.py")), str(folder), *tools]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if said.returncode:
        raise RuntimeError(f"drift_peers.py failed:\n{said.stderr[-2000:]}")
    answer: dict[str, dict[str, Any]] = json.loads(said.stdout.splitlines()[-1])
    return answer


# --- Speed ----------------------------------------------------------------------------------------------------


def race(peers: Path | None, rounds: int) -> list[Row]:
    """What a month's report takes, and whole processes on one pair of months, in turns; medians."""
    world = simulated_world(Plan(0, tests=4), load_contract(CONTRACTS / "simulator.yaml"))
    champion = champion_of(world, FILLED, TRAINED)
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", "evidently", "nannyml")}
    with TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch, "ours"), Path(scratch, "theirs")
        before = shift_month(CHANGED, -1)
        months = {"current": CHANGED, "reference": before}
        months |= {f"past {number}": shift_month(CHANGED, number - 4) for number in range(1, 4)}
        known = ("event_timestamp", *world.contract.entities)
        for folder in (ours, theirs):
            folder.mkdir()
        for name, month in months.items():
            table = compared_columns(world, champion, month_window(month, world.contract.zone), known)
            pq.write_table(table, ours / f"{name}.parquet")
            if name in ("current", "reference"):
                pq.write_table(table.drop_columns(list(known)), theirs / f"{name}.parquet")
        for _ in range(rounds):
            started = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "benchmarks.drift_ours", str(ours)],
                cwd=PROJECT_ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds["ours"].append(time.monotonic() - started)
            for tool in ("evidently", "nannyml"):
                if peers is not None:
                    started = time.monotonic()
                    run_peers(peers, theirs, tool)
                    seconds[tool].append(time.monotonic() - started)
    reports = [Reporter(champion).report(world, CHANGED)[1] for _ in range(rounds)]
    found = {name: statistics.median(values) for name, values in seconds.items() if values}
    rows = [
        Row("rows_a_month", float(len(world.tables[FEATURES, CHANGED])), ""),
        Row("columns", float(len(table.column_names) - len(known)), ""),
        at_most("month_seconds", statistics.median(reports), "s", MONTH_SECONDS),
        *(Row(f"{name}_process_seconds", value, "s") for name, value in found.items()),
    ]
    if peers is not None:
        rows += [
            at_least("evidently_over_ours", found["evidently"] / found["ours"], "times", EVIDENTLY_OVER_OURS),
            at_least("nannyml_over_ours", found["nannyml"] / found["ours"], "times", NANNYML_OVER_OURS),
        ]
    return rows


# --- Figures --------------------------------------------------------------------------------------------------


def interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Clopper and Pearson, 1934), 0 to 1.

    >>> [round(bound, 4) for bound in interval(0, 20)]
    [0.0, 0.1684]
    """
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def rate_rows(
    name: str, hits: Iterable[bool], holds: Callable[[str, float, str, float], Row] | None = None, target: float = 0.0
) -> list[Row]:
    """The share of hits, its unit saying of how many and within which 95 % interval; no row where there are none."""
    values = list(hits)
    if not values:
        return []
    share = sum(values) / len(values)
    low, high = interval(sum(values), len(values))
    unit = f"of {len(values)} ({low:.3f} to {high:.3f})"
    return [holds(name, share, unit, target) if holds else Row(name, share, unit)]


def calls_it_drift(tool: str, said: Outcome) -> bool:
    """Whether a peer raises anything about a month: a column, or the whole of it (`evidently_month`)."""
    if tool == "evidently_month":
        return len(said.peers["evidently"]) >= len(said.peers["columns"]) / 2
    return bool(said.peers[tool])


def figures(said: Sequence[Outcome]) -> list[Row]:
    """The rates of false alarms, of detection, and of right causes, the peers' beside them."""
    quiet = [one for one in said if one.case.change is None and one.case.group != "small"]
    rows = [
        *rate_rows("false_drift_rate", (one.status == "DRIFT" for one in quiet), at_most, FALSE_DRIFT_RATE),
        *rate_rows("false_watch_rate", (one.status == "WATCH" for one in quiet), at_most, FALSE_WATCH_RATE),
    ]
    for group in dict.fromkeys(one.case.group for one in quiet):
        of_group = [one for one in quiet if one.case.group == group]
        rows += rate_rows(f"{group}_false_drift_rate", (one.status == "DRIFT" for one in of_group))
        rows += rate_rows(f"{group}_false_watch_rate", (one.status == "WATCH" for one in of_group))
    for tool in JUDGES:
        asked = [one for one in quiet if one.peers]
        rows += rate_rows(f"{tool}_false_drift_rate", (calls_it_drift(tool, one) for one in asked))
    for small in (False, True):
        targets = not small
        for change in CHANGES:
            found = [one for one in said if one.case.change == change and (one.case.group == "small") == small]
            judged = [one for one in found if one.case.month == change.judged]
            prefix = f"small_{change.name}" if small else change.name
            detected = rate_rows(
                f"{prefix}_detection_rate",
                (one.status == "DRIFT" for one in judged),
                at_least if targets else None,
                DETECTION_RATE,
            )
            named = rate_rows(
                f"{prefix}_cause_rate",
                (names_it(one) for one in judged),
                at_least if targets else None,
                CAUSE_RATE,
            )
            rows += [*detected, *named]
            for tool in JUDGES:
                asked = [one for one in found if one.peers]
                rows += rate_rows(f"{prefix}_{tool}_detection_rate", (calls_it_drift(tool, one) for one in asked))
    return [*rows, *estimate_rows([one for one in said if one.case.group not in ("small", "handbook")])]


def estimate_rows(said: Sequence[Outcome]) -> list[Row]:
    """How often the interval of the estimate covers what came out, and how far it is from it, beside CBPE.

    Where the report says that it does not know, nothing is claimed and nothing is covered.
    """
    said = [one for one in said if one.truth is not None]
    known = [one for one in said if one.estimate is not None]
    rows = rate_rows("estimate_known_rate", (one.estimate is not None for one in said))
    rows += rate_rows("estimate_coverage", (covers(one) for one in known), at_least, ESTIMATE_COVERAGE)
    hot = [one for one in known if one.case.change is not None and one.case.change.name == "hot_spots"]
    rows += rate_rows("hot_spots_estimate_coverage", (covers(one) for one in hot))
    both = [
        (one.estimate[0], one.cbpe, one.truth)
        for one in known
        if one.estimate is not None and one.cbpe is not None and one.truth is not None
    ]
    if both:
        ours, theirs = (statistics.mean(abs(one[place] - one[2]) for one in both) for place in (0, 1))
        unit = f"AP, mean of {len(both)}"
        rows += [
            at_most("estimate_distance", ours, unit, theirs),
            Row("cbpe_distance", theirs, unit),
        ]
    return rows


def covers(one: Outcome) -> bool:
    """Whether the truth lies within the interval of the estimate."""
    return one.estimate is not None and one.truth is not None and one.estimate[1] <= one.truth <= one.estimate[2]


def show_alarms(said: Sequence[Outcome]) -> None:
    """Prints which findings were raised where nothing had changed, and how often."""
    quiet = [one for one in said if one.case.change is None]
    count = Counter(
        (one.case.group, finding.status, finding.kind, finding.feature) for one in quiet for finding in one.moved
    )
    table = Table("months", "status", "kind", "feature", "times", title="raised where nothing changed")
    for (group, *finding), times in count.most_common(20):
        table.add_row(group, *finding, str(times))
    Console().print(table)


def plans(worlds: int, tests: int) -> list[Plan]:
    """Worlds of which half have shocks, and half of these half as strong."""
    strengths = (0.0, 1.0, 0.0, 0.5)
    return [
        Plan(FIRST_SEED + number, shocks=strengths[number % len(strengths)], tests=tests) for number in range(worlds)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("How often the drift report is wrong, what it finds, and what it costs, beside its peers.")
    parser.add_argument("--data", type=Path, default=HANDBOOK, help="folder of months in the Handbook's format")
    parser.add_argument("--worlds", type=int, default=WORLDS, help="simulated worlds, each with every change once")
    parser.add_argument("--tests", type=int, default=TESTS, help="months of a world that are reported on, 5 at least")
    parser.add_argument("--asked", type=int, default=ASKED, help="worlds about whose changes the peers are asked")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the interpreter of the peers; left out if absent")
    parser.add_argument("--rounds", type=int, default=5, help="of the race; medians are reported")
    parser.add_argument("--processes", type=int, default=2, help="worlds that are made at once")
    parser.add_argument(
        "--keep", type=Path, help="folder in which worlds that are done are kept; empty it after changes"
    )
    parser.add_argument("--quick", action="store_true", help="two worlds of five months: whether it runs at all")
    options = parser.parse_args(arguments)
    if options.quick:
        options.worlds, options.tests, options.asked, options.rounds = 2, 5, 1, 1
    if options.tests < LEAST_TESTS:
        parser.error(f"--tests is {options.tests}; the changes lie in the first {LEAST_TESTS} months")
    peers = options.peers if options.peers.exists() else None
    if peers is None:
        print(f"the peers are left out: there is no interpreter at {options.peers}; see `make bench-drift`")
    tasks = [
        Task(plan, "shocked" if plan.shocks else "plain", peers if number < options.asked else None, options.keep)
        for number, plan in enumerate(plans(options.worlds, options.tests))
    ]
    tasks += [Task(Plan(task.plan.seed, SMALL, tests=LEAST_TESTS), "small", None, options.keep) for task in tasks]
    said: list[Outcome] = []
    # Before the worlds: they keep every core busy.
    rows = race(peers, options.rounds)
    if any(options.data.glob("*.parquet")):
        said += judge_handbook(options.data, peers)
    else:
        print(f"the Handbook months are left out: there are no Parquet files in {options.data}")
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        for number, outcomes in enumerate(pool.imap_unordered(judge_task, tasks), 1):
            said += outcomes
            print(f"{number} of {len(tasks)} worlds", file=sys.stderr)
    show_alarms(said)
    return report("drift", [*figures(said), *rows], options.json)


if __name__ == "__main__":
    # One thread each: there are as many processes as cores, and sums come out the same.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
