"""The service under load: ready features beside FastAPI, raw transactions warm and cold, overload, and exactness.

Client and server share the machine over loopback. The Handbook's months are stored as the platform stores them; a model
learns from some weeks of them. What is sent is new: ids and times of its own, after all that is stored, and customers,
terminals and amounts together as the data has them. The load is made by wrk (`apt-get install wrk`).

    python -m benchmarks.serving [--data DIR] [--seconds N] [--overload-seconds N] [--only NAME ...] [--json FILE]
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil  # type: ignore[import-untyped] # publishes no type information (7.2)
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.handbook import CONTRACT, HANDBOOK, Cards, load_cards
from benchmarks.io import settings_of
from benchmarks.platform import scratch_home
from benchmarks.reporting import Row, argument_parser, at_least, at_most, report
from benchmarks.screenshots import free_port
from benchmarks.serving_peer import MODEL_VARIABLE
from bentos.fraud_scorer.online import Online
from fraud_assets.adapters.bento import build_bento, serve_command
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.core.contracts.contract import Contract, load_contract
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.models.encoding import Encoder
from fraud_assets.core.models.scoring import ModelManifest, Scorer, digest_model, model_matrix
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.score_file import score_file
from fraud_assets.workflows.scores import scores_environment

CONNECTIONS = 8
MEETING_CONNECTIONS = 32
PACED_CONNECTIONS = 32
OVERLOAD_CONNECTIONS = 2_560  # ten times as many as are answered at the same time
BODIES = 300_000
COLD = 400
HOT_CUSTOMER, HOT_EVENTS = 999_999, 100_000
WEEK = datetime(2018, 8, 8, tzinfo=UTC)
LEARNED_FROM, LEARNED_TO = datetime(2018, 7, 1, tzinfo=UTC), datetime(2018, 8, 1, tzinfo=UTC)
LARGEST_DIFFERENCE = 1e-6
SCRIPT = Path(__file__).with_name("load.lua")
START_SECONDS = 120
SOAK_REQUESTS = 500_000
PARTS = ("features", "raw", "cold", "hot", "overload", "soak", "exact", "bulk")
# Our targets.
FEATURES_OVER_FASTAPI, P99_OVER_FASTAPI, RAW_A_SECOND = 4.0, 0.25, 1_000.0
RAW_P50_MS, RAW_P99_MS, RAW_P999_MS, COLD_P99_MS, HOT_P99_MS = 2.0, 8.0, 25.0, 15.0, 15.0
RECOVERY_SECONDS, MEMORY_GROWTH = 2.0, 0.10
BULK_A_SECOND, BULK_SECONDS = 300_000.0, 30.0


@dataclass(frozen=True)
class World:
    """A stored history, a model that learned from it, and where they are."""

    settings: Settings
    contract: Contract
    cards: Cards
    store: MonthStore
    model: Any
    onnx: bytes
    manifest: ModelManifest
    folder: Path


@dataclass(frozen=True)
class Load:
    """What came of a load: latencies in milliseconds, and answers by status where they were counted."""

    requests: int
    seconds: float
    p50: float
    p99: float
    p999: float
    refused: int
    broken: int
    statuses: dict[int, int]

    @property
    def a_second(self) -> float:
        """Requests a second that were answered as they should be."""
        return (self.requests - self.refused) / self.seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("The service under load.")
    parser.add_argument("--data", type=Path, default=HANDBOOK, help="folder of months in the Handbook's format")
    parser.add_argument("--seconds", type=int, default=30, help="of each load")
    parser.add_argument("--overload-seconds", type=int, default=60)
    parser.add_argument("--days", type=int, default=7, help="that are replayed in order, to compare features")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="measure these alone")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        parser.error("wrk is missing; install it, for example with `apt-get install wrk`")
    if not any(options.data.glob("*.parquet")):
        parser.error(f"there are no Parquet files in {options.data}; name the folder with --data")
    rows: list[Row] = []
    with scratch_home({"FRAUD_CONTRACT": str(CONTRACT)}) as environment, settings_of(environment) as settings:
        folder = Path(environment["FRAUD_HOME"])
        contract = load_contract(CONTRACT)
        cards = load_cards(options.data, contract)
        world = _world(settings, contract, cards, folder)
        if "exact" in options.only:
            rows += exactness(world, options.days)
        if "bulk" in options.only:
            _store(world, cards.transactions)
            rows += bulk(world, options.data)
        _store(world, pa.concat_tables([cards.transactions, _hot_events(contract, cards)]))
        if "features" in options.only:
            rows += ready_features(world, options.seconds)
        if {"raw", "cold", "hot", "overload", "soak"} & set(options.only):
            rows += raw_transactions(world, options)
        world.store.database.close()
    return report("serving", rows, options.json)


# --- The world ----------------------------------------------------------------------------------------------


def _world(settings: Settings, contract: Contract, cards: Cards, folder: Path) -> World:
    features = compute_features(
        cards.transactions, cards.statements, contract, start=LEARNED_FROM, end=LEARNED_TO
    )  # fmt: skip
    fraud = pa.table({"id": cards.transactions["transaction_id"], "fraud": cards.fraud})
    place = pc.index_in(features["transaction_id"], fraud["id"].combine_chunks())
    encoder = Encoder(feature_names(contract))
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0)
    model.fit(model_matrix(features, encoder), fraud["fraud"].take(place).to_numpy())
    onnx = to_onnx(model, len(encoder.columns))
    manifest = ModelManifest(
        model_name=contract.name, model_version=1, trained_month="2018-07", as_of=LEARNED_TO.isoformat(),
        features=encoder.inputs, encoder=encoder, threshold=0.3, family="hist_gradient_boosting",
        contract_yaml=CONTRACT.read_text(encoding="utf-8"), model_digest=digest_model(onnx),
    )  # fmt: skip
    return World(settings, contract, cards, open_store(settings, writing=True), model, onnx, manifest, folder)


def _hot_events(contract: Contract, cards: Cards) -> pa.Table:
    """A customer with very many transactions in the last month."""
    random = np.random.default_rng(5)
    last = pc.max(cards.transactions["event_timestamp"]).as_py()
    seconds = np.sort(random.uniform(0, 30 * 86_400, HOT_EVENTS))
    values = {
        "transaction_id": np.arange(HOT_EVENTS) + 10**9,
        "event_timestamp": [last - timedelta(days=30) + timedelta(seconds=float(one)) for one in seconds],
        "customer_id": np.full(HOT_EVENTS, HOT_CUSTOMER),
        "terminal_id": random.choice(cards.transactions["terminal_id"].to_numpy(), HOT_EVENTS),
        "amount": random.lognormal(3, 1, HOT_EVENTS),
    }
    return pa.table(values, schema=contract.transactions_schema())


def _store(world: World, transactions: pa.Table) -> None:
    """Stores transactions and all labels as months, with the indexes that serving uses."""
    written = pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC")), transactions.num_rows)
    labels = world.cards.statements.append_column("origin", pa.repeat("a file", world.cards.statements.num_rows))
    for name, rows, column in (
        ("raw_transactions", transactions.append_column("ingested_at", written), "event_timestamp"),
        ("fraud_labels", labels, "label_timestamp"),
    ):
        months = sorted(
            {f"{moment:%Y-%m}" for moment in pc.unique(pc.floor_temporal(rows[column], unit="month")).to_pylist()}
        )
        world.store.replace_months(name, rows, months)
        world.store.index_months(name, months)


# --- Servers and load ---------------------------------------------------------------------------------------


@contextmanager
def service(world: World) -> Iterator[tuple[str, int]]:
    """The bento as `fraud serve` serves it; gives its address and the process that listens."""
    bento = build_bento(world.onnx, world.manifest, bentoml_home=world.folder / "bentoml", project_root=PROJECT_ROOT)
    environment = os.environ | {
        "FRAUD_DATABASE_URL": world.store.database.url,
        "BENTOML_HOME": str(world.folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        **scores_environment(world.settings),
    }
    port = free_port()
    with _running(serve_command(bento.path, port), environment, f"http://127.0.0.1:{port}/readyz") as process:
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def peer(world: World) -> Iterator[str]:
    """FastAPI with the same model."""
    file = world.folder / "peer.skops"
    skops.io.dump(
        {"model": world.model, "names": list(world.manifest.features), "threshold": world.manifest.threshold}, file
    )
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", "benchmarks.serving_peer:make", "--port", str(port)),
        *("--log-level", "warning", "--no-access-log"),
    ]
    environment = os.environ | {MODEL_VARIABLE: str(file)}
    with _running(command, environment, f"http://127.0.0.1:{port}/docs"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: Sequence[str], environment: dict[str, str], asked: str) -> Iterator[int]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(asked, process, log)
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _wait_for(asked: str, process: subprocess.Popen[bytes], log: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(asked, timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            raise SystemExit(f"a server did not start:\n{log.read().decode(errors='replace')[-3000:]}")
        time.sleep(0.2)


def wrk(
    url: str, path: str, bodies: Path, seconds: int, *, connections: int = CONNECTIONS, pause_ms: float = 0,
    count: bool = False,
) -> Load:  # fmt: skip
    """A load of so many seconds; `pause_ms` is what each connection waits on average before it asks again."""
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "30s"),
        *("--script", str(SCRIPT), url, "--", path, str(bodies), f"{pause_ms:.3f}", "1" if count else "0"),
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = [one for one in told.splitlines() if one.startswith("@ ")]
    _, requests, duration, p50, p99, p999, refused, broken, *statuses = line.split()
    counted = {int(status): int(n) for status, n in (one.split(":") for one in statuses)}
    return Load(
        int(requests), int(duration) / 1e6, float(p50) / 1e3, float(p99) / 1e3, float(p999) / 1e3, int(refused),
        int(broken), counted,
    )  # fmt: skip


# --- What is sent -------------------------------------------------------------------------------------------


class Sender:
    """Writes requests of transactions that nobody has seen, each later than the one before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = np.random.default_rng(11)
        self._last = pc.max(world.cards.transactions["event_timestamp"]).as_py()
        self._number = 2 * 10**9

    def drawn(self, n: int, name: str) -> Path:
        """Customers, terminals and amounts together, as transactions of the data have them."""
        rows = world_rows(self._world, self._random.integers(0, self._world.cards.transactions.num_rows, n))
        return self._write(rows, name)

    def each_once(self, name: str) -> Path:
        """Requests that name every customer and every terminal at least once."""
        transactions = self._world.cards.transactions
        places = [
            np.unique(transactions[entity].to_numpy(), return_index=True)[1] for entity in self._world.contract.entities
        ]
        return self._write(world_rows(self._world, self._random.permutation(np.concatenate(places))), name)

    def of(self, customer: int, n: int, name: str) -> Path:
        """Requests of one customer at many terminals."""
        rows = world_rows(self._world, self._random.integers(0, self._world.cards.transactions.num_rows, n))
        return self._write([row | {"customer_id": customer} for row in rows], name)

    def _write(self, rows: Sequence[dict[str, Any]], name: str) -> Path:
        file = self._world.folder / name
        with file.open("w", encoding="utf-8") as lines:
            for row in rows:
                self._number += 1
                self._last += timedelta(milliseconds=80)
                moment = {"transaction_id": self._number, "event_timestamp": self._last.isoformat()}
                lines.write(json.dumps({"transactions": [row | moment]}) + "\n")
        return file


def world_rows(world: World, places: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """What rows of the data say apart from when and under which name they happened."""
    rows: list[dict[str, Any]] = (
        world.cards.transactions.select([*world.contract.columns]).take(pa.array(places)).to_pylist()
    )
    return rows


# --- Measurements -------------------------------------------------------------------------------------------


def ready_features(world: World, seconds: int) -> list[Row]:
    """One row of ready features a request: ours, and FastAPI with `predict_proba`."""
    cards = world.cards
    features = compute_features(
        cards.transactions, cards.statements, world.contract, start=WEEK, end=WEEK + timedelta(days=1)
    )  # fmt: skip
    file = world.folder / "features"
    with file.open("w", encoding="utf-8") as lines:
        for row in features.select(list(world.manifest.features)).to_pylist():
            lines.write(json.dumps({"features": [row]}) + "\n")
    with service(world) as (url, _):
        wrk(url, "/score", file, 3)
        ours = wrk(url, "/score", file, seconds)
    with peer(world) as url:
        wrk(url, "/score", file, 3)
        theirs = wrk(url, "/score", file, seconds)
    _require_answers(ours, theirs)
    return [
        Row("features_given_a_second", ours.a_second, "requests/s"),
        Row("fastapi_a_second", theirs.a_second, "requests/s"),
        at_least("features_given_over_fastapi", ours.a_second / theirs.a_second, "times", FEATURES_OVER_FASTAPI),
        Row("features_given_p99_ms", ours.p99, "ms"),
        Row("fastapi_p99_ms", theirs.p99, "ms"),
        at_most("features_given_p99_over_fastapi", ours.p99 / theirs.p99, "times", P99_OVER_FASTAPI),
    ]


def _require_answers(*loads: Load) -> None:
    for load in loads:
        if load.refused or load.broken or not load.requests:
            raise SystemExit(f"{load.refused} of {load.requests} requests were refused, {load.broken} broke")


def raw_transactions(world: World, options: Any) -> list[Row]:
    """Raw transactions, with all months stored."""
    rows = [Row("stored_transactions", float(world.cards.transactions.num_rows + HOT_EVENTS), "rows")]
    sender = Sender(world)
    with service(world) as (url, process):
        if "cold" in options.only:
            rows += _cold(sender, url)
        rows.append(_meet(url, sender.each_once("once")))
        raw = wrk(url, "/v1/score", sender.drawn(BODIES, "bodies"), options.seconds)
        _require_answers(raw)
        if "raw" in options.only:
            rows += [
                at_least("raw_requests_a_second", raw.a_second, "requests/s", RAW_A_SECOND),
                Row("raw_saturated_p99_ms", raw.p99, "ms"),
                *_half(sender, url, raw.a_second / 2, options.seconds),
            ]
        if "hot" in options.only:
            rows += _hot(sender, url, options.seconds)
        if "overload" in options.only:
            rows += _overload(sender, url, process, options.overload_seconds)
        if "soak" in options.only:
            rows += _soak(sender, url, process, raw.a_second)
    return rows


def _meet(url: str, file: Path) -> Row:
    """Every customer and terminal is met before anything else is measured, by many callers at once."""
    lines = file.read_bytes().splitlines()
    limits = httpx.Limits(max_connections=MEETING_CONNECTIONS)
    began = time.monotonic()
    with (
        httpx.Client(base_url=url, timeout=60, trust_env=False, limits=limits) as client,
        ThreadPoolExecutor(MEETING_CONNECTIONS) as callers,
    ):

        def ask(line: bytes) -> None:
            answer = client.post("/v1/score", content=line, headers={"Content-Type": "application/json"})
            answer.raise_for_status()

        for _ in callers.map(ask, lines):
            pass
    return Row("raw_first_met_a_second", len(lines) / (time.monotonic() - began), "requests/s")


def _half(sender: Sender, url: str, a_second: float, seconds: int) -> list[Row]:
    """At half of what it can answer, by connections that wait at random between their requests."""
    pause = PACED_CONNECTIONS / a_second * 1000
    load = wrk(
        url, "/v1/score", sender.drawn(BODIES, "paced"), seconds, connections=PACED_CONNECTIONS, pause_ms=pause
    )  # fmt: skip
    _require_answers(load)
    return [
        Row("raw_half_load_a_second", load.a_second, "requests/s"),
        at_most("raw_p50_ms", load.p50, "ms", RAW_P50_MS),
        at_most("raw_p99_ms", load.p99, "ms", RAW_P99_MS),
        at_most("raw_p999_ms", load.p999, "ms", RAW_P999_MS),
    ]


def _cold(sender: Sender, url: str) -> list[Row]:
    """One after the other, each of a customer and a terminal that the service has not met."""
    file, met, took = sender.each_once("cold"), set[tuple[str, int]](), []
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client, file.open(encoding="utf-8") as lines:
        for line in lines:
            (row,) = json.loads(line)["transactions"]
            entities = {(name, row[name]) for name in ("customer_id", "terminal_id")}
            if entities & met:
                continue
            met |= entities
            began = time.perf_counter()
            client.post("/v1/score", content=line, headers={"Content-Type": "application/json"}).raise_for_status()
            took.append((time.perf_counter() - began) * 1000)
            if len(took) > COLD:
                break
    # The first one also opens the connections.
    p50, p99 = np.percentile(took[1:], [50, 99])
    return [Row("raw_cold_p50_ms", float(p50), "ms"), at_most("raw_cold_p99_ms", float(p99), "ms", COLD_P99_MS)]


def _hot(sender: Sender, url: str, seconds: int) -> list[Row]:
    """One customer with very many transactions, asked about without a pause by one connection."""
    file = sender.of(HOT_CUSTOMER, 50_000, "hot")
    wrk(url, "/v1/score", file, 3, connections=1)
    load = wrk(url, "/v1/score", file, seconds, connections=1)
    _require_answers(load)
    return [
        Row("hot_key_events", float(HOT_EVENTS), "events"),
        Row("hot_key_p50_ms", load.p50, "ms"),
        at_most("hot_key_p99_ms", load.p99, "ms", HOT_P99_MS),
    ]


def _overload(sender: Sender, url: str, process: int, seconds: int) -> list[Row]:
    """Ten times as many callers as are answered at the same time, none of whom waits."""
    file = sender.drawn(BODIES, "overload")
    before, ready = _memory(process), list[bool]()
    load = _while(
        lambda: wrk(url, "/v1/score", file, seconds, connections=OVERLOAD_CONNECTIONS, count=True),
        lambda: ready.append(_is_ready(url)),
    )
    began = time.monotonic()
    while not (_is_ready(url) and _usual(sender, url)) and time.monotonic() - began < 60:
        time.sleep(0.05)
    recovered = time.monotonic() - began
    others = sum(n for status, n in load.statuses.items() if status not in (200, 429, 504))
    return [
        Row("overload_a_second", load.statuses.get(200, 0) / load.seconds, "requests/s"),
        Row("overload_refused_share", 1 - load.statuses.get(200, 0) / max(1, sum(load.statuses.values())), ""),
        at_most("overload_other_answers", float(others + load.broken), "answers", 0.0),
        # Of these: what wrk had to wait for longer than its 30 s, or lost its connection over.
        Row("overload_late_answers", float(load.broken), "answers"),
        at_least("overload_ready_share", float(np.mean(ready)) if ready else 0.0, "", 1.0),
        at_most("overload_memory_growth", _memory(process) / before - 1, "", MEMORY_GROWTH),
        at_most("overload_recovery_seconds", recovered, "s", RECOVERY_SECONDS),
    ]


def _soak(sender: Sender, url: str, process: int, a_second: float) -> list[Row]:
    """Very many requests in one go, each of a transaction of its own; memory after the first tenth and at the end."""
    tenth = SOAK_REQUESTS // 10
    loads = []
    for n in (tenth, SOAK_REQUESTS - tenth):
        file = sender.drawn(n, "soak")
        loads.append(wrk(url, "/v1/score", file, math.ceil(n / a_second), count=True))
        file.unlink()
        if len(loads) == 1:
            before = _memory(process)
    statuses = [(status, n) for load in loads for status, n in load.statuses.items()]
    failed = sum(n for status, n in statuses if status >= 500) + sum(load.broken for load in loads)
    return [
        Row("soak_requests", float(sum(n for _, n in statuses)), "requests"),
        at_most("soak_failed", float(failed), "answers", 0.0),
        at_most("soak_memory_growth", _memory(process) / before - 1, "", MEMORY_GROWTH),
    ]


def _while(work: Callable[[], Load], also: Callable[[], None]) -> Load:
    """Does something once a second while other work goes on."""
    import threading

    over = threading.Event()

    def repeat() -> None:
        while not over.wait(1):
            also()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        return work()
    finally:
        over.set()
        thread.join()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _usual(sender: Sender, url: str) -> bool:
    """Whether a transaction is answered as fast as a usual one."""
    body = sender.drawn(1, "one").read_bytes()
    began = time.monotonic()
    try:
        answer = httpx.post(
            f"{url}/v1/score", content=body, headers={"Content-Type": "application/json"}, timeout=10, trust_env=False
        )
    except httpx.TransportError:
        return False
    return answer.is_success and time.monotonic() - began < 0.1


def _memory(process: int) -> float:
    """Of a server and its workers, in bytes."""
    root = psutil.Process(process)
    return float(sum(one.memory_info().rss for one in (root, *root.children(recursive=True))))


def bulk(world: World, data: Path) -> list[Row]:
    """All rows as one file: scoring alone, from ready features; and as `fraud score` does it, with history and all."""
    cards, contract, scorer = world.cards, world.contract, Scorer(world.onnx, world.manifest)
    first, last = (cards.transactions["event_timestamp"][place].as_py() for place in (0, -1))
    features = compute_features(
        cards.transactions, cards.statements, contract, start=first, end=last + timedelta(microseconds=1)
    )
    began = time.monotonic()
    scores = scorer.score(features)
    alone = time.monotonic() - began
    file = world.folder / "bulk.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(one) for one in sorted(data.glob("*.parquet"))]), file)
    began = time.monotonic()
    scored, problems = score_file(file, scorer, world.store.database)
    seconds = time.monotonic() - began
    if problems or scored.num_rows != cards.transactions.num_rows:
        raise SystemExit(f"{len(problems)} of {scored.num_rows} rows of the file could not be scored")
    of_file = pa.table({"id": scored[contract.transaction_id.column], "score": scored["score"]})  # type: ignore[union-attr]
    place = pc.index_in(features["transaction_id"].cast(of_file["id"].type), of_file["id"].combine_chunks())
    gap = np.abs(of_file["score"].take(place).to_numpy() - scores).max()
    return [
        at_least("bulk_scores_a_second", len(scores) / alone, "rows/s", BULK_A_SECOND),
        Row("bulk_rows", float(scored.num_rows), "rows"),
        at_most("bulk_file_seconds", seconds, "s", BULK_SECONDS),
        at_most("bulk_largest_score_difference", float(gap), "probability", LARGEST_DIFFERENCE),
    ]


def exactness(world: World, days: int) -> list[Row]:
    """Transactions of some days in their order, with all before them stored: features online, and the batch's."""
    cards, contract = world.cards, world.contract
    moments, end = cards.transactions["event_timestamp"], WEEK + timedelta(days=days)
    _store(world, cards.transactions.filter(pc.less(moments, pa.scalar(WEEK, moments.type))))
    asked = cards.transactions.filter(
        pc.and_(
            pc.greater_equal(moments, pa.scalar(WEEK, moments.type)), pc.less(moments, pa.scalar(end, moments.type))
        )
    )
    batch = compute_features(cards.transactions, cards.statements, contract, start=WEEK, end=end)
    batch = batch.take(pc.index_in(asked["transaction_id"], batch["transaction_id"].combine_chunks()))
    names = feature_names(contract)
    expected = np.column_stack([batch[name].to_numpy(zero_copy_only=False) for name in names])
    found = np.empty_like(expected)
    online = Online(contract, world.store.database.url)
    began = time.monotonic()
    try:
        for place in range(asked.num_rows):
            one = asked.slice(place, 1)
            made = online.at_once(one)
            if made is None:
                (made,) = online.features(one, math.inf)
            found[place] = [np.nan if made[name] is None else made[name] for name in names]
    finally:
        online.close()
    same = np.isclose(found, expected, rtol=LARGEST_DIFFERENCE, atol=LARGEST_DIFFERENCE, equal_nan=True)
    scorer = Scorer(world.onnx, world.manifest)
    gap = np.abs(scorer.score(batch) - scorer.probabilities(found.astype(np.float32)))
    world.store.database.query("DELETE FROM recent_transactions RETURNING 1 AS one")
    return [
        Row("replayed_transactions", float(asked.num_rows), "rows"),
        Row("replayed_a_second", asked.num_rows / (time.monotonic() - began), "rows/s"),
        at_most("online_offline_mismatches", float((~same.all(axis=1)).sum()), "rows", 0.0),
        at_most("online_offline_largest_score_difference", float(gap.max()), "probability", LARGEST_DIFFERENCE),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
