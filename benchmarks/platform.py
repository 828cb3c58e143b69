"""The platform as a user runs it, against a bare script that does the same computing (`bare.py`).

Both are whole processes, from start to exit, in fresh folders: the platform's time includes the creation of its
database, Dagster's and MLflow's tables, plots, the registry and the bento. Both must reach the same decisions, or
there is nothing to compare. Bytecode is cached, as in any installation, whatever the caller's environment says.

A third part runs sixty small months in one command: once windows are full, a month should cost what the others do.

    python -m benchmarks.platform [--data DIR] [--only demo|handbook|months] [--repeats N] [--json FILE]
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped] # publishes no type information (7.2)
from dotenv import dotenv_values

from benchmarks.reporting import Row, argument_parser, at_most, report
from fraud_assets.core.months import months_between
from fraud_assets.settings import PROJECT_ROOT

HANDBOOK = PROJECT_ROOT.parent / "shared" / "data" / "handbook"
DEMO_MONTHS = ("2025-01", "2025-06")
HANDBOOK_MONTHS = ("2018-04", "2018-08")
DEMO_SECONDS = 75.0
OVER_BARE = 1.4
MANY_MONTHS = ("2020-01", "2024-12")
SMALL = {"FRAUD_SIMULATOR_CUSTOMERS": "60", "FRAUD_SIMULATOR_TERMINALS": "120"}
LAST_OVER_SECOND_YEAR = 1.3
SAME_AVERAGE_PRECISION = 1e-6
SAMPLE_SECONDS = 0.2
# Finding the processes, and adding up what Postgres' share, takes 30 ms of a core that the measured work needs too.
SAMPLES_PER_LOOK = 5


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: from its start to its exit.
        cpu_seconds: of all its processes, and of the home's Postgres; other work on the machine changes it little.
        peak_mib: largest sum of memory seen in samples 0.2 s apart: resident memory of the command and its
            children, and of the home's Postgres processes the proportional set size, which counts the buffers that
            they share once (unique memory where the system has no proportional one). Which processes there are, and
            Postgres' part, is looked up every fifth sample.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Decisions:
    """What both sides must agree on.

    Attributes:
        drift_status, validation_status, champion_version: by month.
        average_precision: by month and role.
    """

    drift_status: dict[str, str]
    validation_status: dict[str, str]
    champion_version: dict[str, int | None]
    average_precision: dict[tuple[str, str], float]


class ComparisonError(RuntimeError):
    """The two sides did not do the same, or one of them failed: there is nothing to compare."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("The platform against a bare script that does the same computing.")
    parser.add_argument("--data", type=Path, default=HANDBOOK, help="folder of the Handbook's months")
    parser.add_argument("--only", choices=("demo", "handbook", "months"), help="one of the three parts")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; medians are reported")
    options = parser.parse_args(arguments)
    require_default_settings()
    rows: list[Row] = []
    if options.only in (None, "demo"):
        rows += _demo(options.repeats)
    if options.only in (None, "handbook"):
        rows += _handbook(options.data, options.repeats)
    if options.only in (None, "months"):
        rows += _months()
    return report("platform", rows, options.json)


def _demo(repeats: int) -> list[Row]:
    platform, bare, again = race({"FRAUD_SOURCE": "simulator"}, "simulator", DEMO_MONTHS, repeats, again=True)
    return [
        at_most("demo_seconds", platform.seconds, "s", DEMO_SECONDS),
        Row("demo_peak_mib", platform.peak_mib, "MiB"),
        Row("demo_second_run_seconds", again.seconds, "s"),
        Row("bare_demo_seconds", bare.seconds, "s"),
        Row("demo_over_bare", platform.seconds / bare.seconds, "times"),
        Row("demo_cpu_over_bare", platform.cpu_seconds / bare.cpu_seconds, "times"),
    ]


def _handbook(data: Path, repeats: int) -> list[Row]:
    if not any(data.glob("*.parquet")):
        print(
            f"\n*** SKIPPED: the Handbook months are not in {data}. Their rows, with the target of {OVER_BARE:g} times "
            "the bare script, are missing below; name the folder with --data. ***\n",
            file=sys.stderr,
        )
        return []
    source = {"FRAUD_SOURCE": "parquet", "FRAUD_SOURCE_PATH": str(data.resolve())}
    platform, bare, _ = race(source, "handbook", HANDBOOK_MONTHS, repeats, again=False)
    return [
        Row("handbook_seconds", platform.seconds, "s"),
        Row("handbook_cpu_seconds", platform.cpu_seconds, "s"),
        Row("handbook_peak_mib", platform.peak_mib, "MiB"),
        Row("bare_handbook_seconds", bare.seconds, "s"),
        Row("bare_handbook_cpu_seconds", bare.cpu_seconds, "s"),
        Row("bare_handbook_peak_mib", bare.peak_mib, "MiB"),
        Row("handbook_cpu_over_bare", platform.cpu_seconds / bare.cpu_seconds, "times"),
        at_most("platform_over_bare", platform.seconds / bare.seconds, "times", OVER_BARE),
    ]


def _months() -> list[Row]:
    """What a month costs in the second year and in the fifth, of one run of both."""
    first, last = MANY_MONTHS
    with tempfile.TemporaryDirectory() as folder:
        contract = Path(folder, "simulator.yaml")
        text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
        contract.write_text(re.sub(r"(?m)^first_month: .*$", f"first_month: {first}", text), encoding="utf-8")
        settings = {"FRAUD_SOURCE": "simulator", "FRAUD_CONTRACT": str(contract), **SMALL}
        with scratch_home(settings) as environment:
            measure([*fraud(), "run", "--from", first, "--to", last], environment, Path(environment["FRAUD_HOME"]))
            written = _query(
                environment,
                "SELECT extract(epoch FROM min(written_at)) FROM month_versions WHERE table_name = 'raw_transactions' "
                "GROUP BY month ORDER BY month",
            )
    began = [float(moment) for (moment,) in written]
    if len(began) != len(months_between(first, last)):
        raise ComparisonError(f"{len(began)} months were stored of {len(months_between(first, last))}")
    seconds = [after - before for before, after in itertools.pairwise(began)]
    second_year, last_year = statistics.median(seconds[12:24]), statistics.median(seconds[-12:])
    return [
        Row("small_months", float(len(began)), "months"),
        Row("small_month_seconds_second_year", second_year, "s"),
        Row("small_month_seconds_last_year", last_year, "s"),
        at_most("month_60_over_month_24", last_year / second_year, "times", LAST_OVER_SECOND_YEAR),
    ]


def race(
    source: Mapping[str, str], contract: str, months: tuple[str, str], repeats: int, *, again: bool
) -> tuple[Cost, Cost, Cost]:
    """Runs both sides in turn, and checks that they decided alike.

    Args:
        source: the settings of the source.
        contract: the contract's name.
        months: first and last.
        repeats: how often; the costs are medians.
        again: whether the platform runs a second time on what it has.

    Returns:
        The platform's cost, the bare script's, and that of the platform's second run (of the first without `again`).

    Raises:
        ComparisonError: when they did not decide alike, or one failed.
    """
    costs: list[tuple[Cost, Cost, Cost]] = []
    for _ in range(repeats):
        with scratch_home({**source, "FRAUD_CONTRACT": f"contracts/{contract}.yaml"}) as environment:
            home = Path(environment["FRAUD_HOME"])
            command = [*fraud(), "run", "--from", months[0], "--to", months[1]]
            first = measure(command, environment, home)
            decided = platform_decisions(environment)
            second = measure(command, environment, home) if again else first
            if again and platform_decisions(environment) != decided:
                raise ComparisonError("the platform's second run of the same months decided differently from its first")
            bare_folder, outcomes = home / "bare", home / "bare.json"
            bare_folder.mkdir()
            bare = measure(
                [
                    *(sys.executable, "-m", "benchmarks.bare", "--from", months[0], "--to", months[1]),
                    *("--folder", str(bare_folder), "--json", str(outcomes)),
                ],
                environment,
                home=None,
            )
            require_same(decided, bare_decisions(json.loads(outcomes.read_text(encoding="utf-8"))))
            costs.append((first, bare, second))
    platform, bare, second = (_median([cost[side] for cost in costs]) for side in range(3))
    return platform, bare, second


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in Cost.__dataclass_fields__))


# --- Running ------------------------------------------------------------------------------------------------


def require_default_settings() -> None:
    """Refuses to run beside a `.env` that would reach into the measurement.

    Raises:
        SystemExit: naming the variables.
    """
    kept = sorted(
        name for name, value in dotenv_values(PROJECT_ROOT / ".env").items() if name.startswith("FRAUD_") and value
    )
    if kept:
        raise SystemExit(f"benchmarks measure the default settings; move .env aside, it sets {', '.join(kept)}")


@contextmanager
def scratch_home(settings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a fresh FRAUD_HOME, whose Postgres is stopped and which is removed at the end.

    Args:
        settings: further variables; none of the caller's FRAUD_ variables is passed on.
    """
    # Short: the path of a Unix socket holds about 100 characters.
    home = Path(tempfile.mkdtemp(prefix="fraud"))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FRAUD_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    environment |= {**settings, "FRAUD_HOME": str(home)}
    try:
        yield environment
    finally:
        subprocess.run(
            [*fraud(), "db", "stop"], cwd=PROJECT_ROOT, env=environment, stdout=subprocess.DEVNULL, check=True
        )
        shutil.rmtree(home)


def fraud() -> list[str]:
    """The `fraud` command of this Python."""
    return [str(Path(sys.executable).parent / "fraud")]


def measure(command: Sequence[str], environment: Mapping[str, str], home: Path | None) -> Cost:
    """Runs a command to its end and takes its time, processor time and peak memory.

    Args:
        command: the program and its arguments.
        environment: all of it.
        home: whose Postgres counts as the command's too; None for none.

    Raises:
        ComparisonError: when it fails, with the end of what it said.
    """
    with tempfile.TemporaryFile() as said:
        postgres_before = _postgres_cpu(home)
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=dict(environment), stdout=said, stderr=said)
        watched = psutil.Process(process.pid)
        peak = database = 0
        tree: list[psutil.Process] = []
        for sample in itertools.count():
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if sample % SAMPLES_PER_LOOK == 0:
                tree, database = _tree(watched), sum(map(_proportional, _postgres(home)))
            peak = max(peak, database + sum(map(_resident, tree)))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            tail = said.read().decode(errors="replace")[-3000:]
            raise ComparisonError(f"{Path(command[0]).name} ended with {process.returncode}:\n{tail}")
        cpu = usage.ru_utime + usage.ru_stime + _postgres_cpu(home) - postgres_before
    return Cost(seconds, cpu, peak / 2**20)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _postgres(home: Path | None) -> list[psutil.Process]:
    """The server of a home and its backends, while there is one."""
    if home is None:
        return []
    try:
        # Its first line is the server's process id.
        pid = int((home / "postgres" / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        return _tree(psutil.Process(pid))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return []


def _postgres_cpu(home: Path | None) -> float:
    total = 0.0
    for position, process in enumerate(_postgres(home)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        # Backends that have ended count as the server's children; those that run are added here.
        if position == 0:
            total += times.children_user + times.children_system
    return total


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _proportional(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    return int(getattr(memory, "pss", memory.uss))


# --- Comparing ----------------------------------------------------------------------------------------------


def platform_decisions(environment: Mapping[str, str]) -> Decisions:
    """What the platform of a home decided, from its tables."""
    drift = _query(environment, "SELECT month, drift_status FROM drift_report WHERE kind = 'verdict'")
    champion = _query(environment, "SELECT month, validation_status, champion_version FROM champion")
    judged = _query(environment, "SELECT month, role, average_precision FROM evaluation WHERE role <> 'none'")
    return Decisions(
        drift_status={month[:7]: status for month, status in drift},
        validation_status={month[:7]: status for month, status, _ in champion},
        champion_version={month[:7]: int(version) if version else None for month, _, version in champion},
        average_precision={(month[:7], role): float(value) for month, role, value in judged},
    )


def bare_decisions(outcomes: Sequence[Mapping[str, Any]]) -> Decisions:
    """What the bare script decided, from its JSON."""
    return Decisions(
        drift_status={row["month"]: row["drift_status"] for row in outcomes},
        validation_status={row["month"]: row["validation_status"] for row in outcomes},
        champion_version={row["month"]: row["champion_version"] for row in outcomes},
        average_precision={
            (row["month"], role): value for row in outcomes for role, value in row["average_precision"].items()
        },
    )


def require_same(platform: Decisions, bare: Decisions) -> None:
    """Makes sure that both sides did the same computing.

    Raises:
        ComparisonError: naming what differs.
    """
    for name in ("drift_status", "validation_status", "champion_version"):
        ours, theirs = getattr(platform, name), getattr(bare, name)
        if ours != theirs:
            raise ComparisonError(f"{name} differs, so the comparison is void: platform {ours}, bare script {theirs}")
    ours, theirs = platform.average_precision, bare.average_precision
    if ours.keys() != theirs.keys():
        raise ComparisonError(f"other models were judged: platform {sorted(ours)}, bare script {sorted(theirs)}")
    for key, value in ours.items():
        if not abs(value - theirs[key]) <= SAME_AVERAGE_PRECISION:
            raise ComparisonError(f"AP of {key} differs: platform {value!r}, bare script {theirs[key]!r}")


def _query(environment: Mapping[str, str], sql: str) -> list[list[str]]:
    answer = subprocess.run(
        [*fraud(), "db", "--query", sql],
        cwd=PROJECT_ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return list(csv.reader(io.StringIO(answer.stdout), delimiter="\t"))


if __name__ == "__main__":
    raise SystemExit(main())
