"""The live bento with nothing but its own requirements, against `fraud score` of the same rows.

A fresh virtual environment gets what the bento's requirements.txt lists and no more, which this checks, and serves
the bento from it on the platform's database. Stored transactions of the newest month, and their stored features, are
sent; the answers must be those of `fraud score`, which uses the registry's model and the platform's environment.

    python -m benchmarks.bento_alone [--json FILE]        (FRAUD_HOME chooses the platform; `make demo` makes one)
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from benchmarks.platform import fraud
from benchmarks.reporting import Row, argument_parser, at_most, report
from fraud_assets.adapters.bento import MODEL_FOLDER
from fraud_assets.adapters.postgres.database import open_database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.status import read_status

TRANSACTIONS = 200
ONE_BY_ONE = 50
LARGEST_DIFFERENCE = 1e-6
# What trains and orchestrates, and has no business in the serving environment; and the project itself, which the
# bento carries.
ABSENT = ("mlflow", "dagster", "sklearn", "fraud_assets")
START_SECONDS = 120


class BentoError(RuntimeError):
    """The bento cannot be checked; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = argument_parser("Serves the live bento with only its own requirements.").parse_args(arguments)
    settings = Settings()
    store = open_store(settings)
    bento = live_bento(settings, store)
    contract = settings.loaded_contract
    transactions, features = sample_rows(store)
    manifest = ModelManifest.from_json((bento / "src" / MODEL_FOLDER / "manifest.json").read_bytes())
    given = features.select(list(manifest.features))
    with tempfile.TemporaryDirectory(prefix="fraud") as scratch:
        folder = Path(scratch)
        python = serving_environment(bento, folder / "venv")
        expected = _scored(source_rows(transactions, contract), folder / "transactions")
        expected_from_features = _scored(given, folder / "features")
        with served(bento, python, open_database(settings).url, folder) as client:
            answers = ask_for_transactions(client, transactions)
            answers_from_features = ask(client, "features", given.to_pylist())
        packages = json.loads(
            _run([*_uv(), "pip", "list", "--quiet", "--format", "json", "--python", str(python)]).stdout
        )
    by_transactions, by_features = (
        _largest_difference(found, wanted)
        for found, wanted in ((answers, expected), (answers_from_features, expected_from_features))
    )
    equal = _decisions(answers) == _decided(expected) and _decisions(answers_from_features) == _decided(
        expected_from_features
    )
    return report(
        "bento_alone",
        [
            at_most("largest_difference_transactions", by_transactions, "probability", LARGEST_DIFFERENCE),
            at_most("largest_difference_features", by_features, "probability", LARGEST_DIFFERENCE),
            Row("decisions_equal", equal, "", True, equal),
            # What was computed online, against what the asset had stored: training and serving see the same.
            Row(
                "largest_difference_online_to_stored",
                _largest_difference(answers, expected_from_features),
                "probability",
            ),
            Row("transactions_compared", float(transactions.num_rows), "rows"),
            Row("flagged_for_review", float(sum(decision == "review" for decision, _ in _decisions(answers))), "rows"),
            Row("packages_in_the_environment", float(len(packages)), "packages"),
        ],
        options.json,
    )


def live_bento(settings: Settings, store: MonthStore) -> Path:
    """The folder of the promoted model's bento.

    Raises:
        BentoError: when nothing is live, or its bento is not in the store.
    """
    champion = read_status(store, LedgerStore(store.database))["champion"]
    if champion is None or champion["bento_tag"] is None:
        raise BentoError("no model has been promoted and packaged in this home yet; use `make demo`, or set FRAUD_HOME")
    name, version = champion["bento_tag"].split(":")
    bento: Path = settings.bentoml_home / "bentos" / name / version
    if not (bento / "bento.yaml").is_file():
        raise BentoError(f"the store has no bento {name}:{version}; materialise fraud_bento again")
    return bento


def sample_rows(store: MonthStore) -> tuple[pa.Table, pa.Table]:
    """Transactions spread evenly over the newest month, and their features, in the same order."""
    month = list(store.months("raw_transactions"))[-1]
    columns = store.contract.transactions_schema().names
    stored = store.read("raw_transactions", columns, first_month=month, last_month=month)
    count = min(TRANSACTIONS, stored.num_rows)
    transactions = stored.take(np.linspace(0, stored.num_rows - 1, count).astype(np.int64))
    features = store.read("transaction_features", first_month=month, last_month=month)
    position = pc.index_in(transactions["transaction_id"], features["transaction_id"].combine_chunks())
    return transactions, features.take(position)


def source_rows(transactions: pa.Table, contract: Contract) -> pa.Table:
    """Canonical transactions as the contract's source would deliver them, for a CSV file."""
    moments = transactions["event_timestamp"].to_pylist()
    time_column = contract.event_timestamp
    if time_column.format is not None:
        zone = contract.zone
        times = [moment.astimezone(zone).strftime(time_column.format) for moment in moments]
    else:
        times = [moment.isoformat() for moment in moments]
    columns = {time_column.column: pa.array(times, pa.string())}
    if contract.transaction_id is not None:
        columns[contract.transaction_id.column] = transactions["transaction_id"]
    columns |= {column.column: transactions[name] for name, column in contract.columns.items()}
    return pa.table(columns)


# --- The environment ----------------------------------------------------------------------------------------


def serving_environment(bento: Path, folder: Path) -> Path:
    """A virtual environment with the bento's own requirements and nothing else.

    Returns:
        Its Python.

    Raises:
        BentoError: when something could be imported there that a bento must not need.
    """
    _run([*_uv(), "venv", "--quiet", "--python", sys.executable, str(folder)])
    python = folder / "bin" / "python"
    requirements = bento / "env" / "python" / "requirements.txt"
    _run([*_uv(), "pip", "install", "--quiet", "--python", str(python), "--requirements", str(requirements)])
    probe = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    found = _run([str(python), "-I", "-c", probe, *ABSENT]).stdout.split()
    if found:
        raise BentoError(f"the bento's requirements bring {', '.join(found)}; serving shall not need them")
    return python


@contextmanager
def served(bento: Path, python: Path, database_url: str, folder: Path) -> Iterator[httpx.Client]:
    """`bentoml serve` of a bento in an environment of its own, ready, and stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    home = folder / "home"
    home.mkdir()
    # Nothing of this process's environment but what a program needs to run.
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment |= {
        "HOME": str(home),
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "FRAUD_DATABASE_URL": database_url,
    }
    command = [str(python), "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "serve.log"
    with log.open("w") as said:
        service = subprocess.Popen(command, cwd=home, env=environment, stdout=said, stderr=said)
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            _wait_until_ready(client, service, log)
            yield client
    finally:
        service.terminate()
        try:
            service.wait(timeout=30)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def _wait_until_ready(client: httpx.Client, service: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and service.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            # Not listening yet.
            pass
        time.sleep(0.5)
    state = "is not ready" if service.poll() is None else f"ended with {service.returncode}"
    raise BentoError(f"bentoml serve {state}; it said:\n{log.read_text(errors='replace')[-3000:]}")


def _uv() -> list[str]:
    return [str(Path(sys.executable).parent / "uv")]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BentoError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


# --- Asking and comparing -----------------------------------------------------------------------------------


def ask_for_transactions(client: httpx.Client, transactions: pa.Table) -> list[dict[str, Any]]:
    """Sends every fourth transaction by itself and the others as one batch; the answers in the rows' order."""
    rows = [row | {"event_timestamp": row["event_timestamp"].isoformat()} for row in transactions.to_pylist()]
    alone = set(range(0, len(rows), max(len(rows) // ONE_BY_ONE, 1)))
    answers: dict[int, dict[str, Any]] = {
        number: ask(client, "transactions", [rows[number]])[0] for number in sorted(alone)
    }
    rest = [number for number in range(len(rows)) if number not in alone]
    answers |= dict(zip(rest, ask(client, "transactions", [rows[number] for number in rest]), strict=True))
    return [answers[number] for number in range(len(rows))]


def ask(client: httpx.Client, kind: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The service's results for rows of `transactions` or `features`.

    Raises:
        BentoError: when it refuses them.
    """
    answer = client.post("/score", json={kind: rows})
    if answer.status_code != 200:
        raise BentoError(f"the service answered {len(rows)} {kind} with {answer.status_code}: {answer.text[:500]}")
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def _scored(rows: pa.Table, stem: Path) -> pa.Table:
    """The rows after `fraud score` of a CSV file that holds them."""
    file, scored = stem.with_suffix(".csv"), stem.with_suffix(".parquet")
    pyarrow.csv.write_csv(rows, file)
    _run([*fraud(), "score", str(file), "--output", str(scored)])
    return pyarrow.parquet.read_table(scored)


def _largest_difference(answers: Sequence[dict[str, Any]], expected: pa.Table) -> float:
    served_scores = np.array([answer["probability"] for answer in answers])
    return float(np.abs(served_scores - expected["score"].to_numpy()).max())


def _decisions(answers: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(answer["decision"], answer["model_version"]) for answer in answers]


def _decided(expected: pa.Table) -> list[tuple[str, int]]:
    return list(zip(expected["decision"].to_pylist(), expected["model_version"].to_pylist(), strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
