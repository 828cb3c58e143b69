"""Every score that a served bento gives is kept: each once, through outages and kills, and what is let through is told.

The service runs as it is deployed, asked over HTTP, with a real PostgreSQL that stands still, refuses, or comes back.
"""

import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import psycopg
import pyarrow as pa
import pytest

from fraud_assets.adapters.bento import build_bento
from fraud_assets.adapters.guards.breaker_events import last_events, record_closing
from fraud_assets.adapters.postgres import schema
from fraud_assets.adapters.scores.state import read_states
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.models.live import LIVE_FILE, LIVE_VARIABLE, LiveModel
from fraud_assets.workflows.guards.lists import add_to_list, lists_session, remove_from_list
from fraud_assets_tests.card_service import (
    CARDS,
    ROOT,
    card_bento,
    card_features,
    card_model,
    cards,
    closed_database,
    database_url,
    name_for_serving,
    postgres,
    served,
    store_of,
    trained,
    transaction_rows,
)

__all__ = ["card_bento", "card_features", "card_model", "cards", "database_url", "postgres"]

# Nobody's history is needed, so that it answers without its database; the ids are the caller's.
SALES = """
name: verkauf
first_month: 2024-01
timezone: Europe/Berlin
transaction_id: {column: beleg, type: string}
event_timestamp: {column: zeit}
amount: {column: betrag, type: number}
attributes:
  risiko: {column: risiko, type: number, feature: true}
  kanal: {column: kanal, type: string, nullable: true}
label: {column: betrug, delay_days: 7}
maturity_days: 14
"""
SEED = "a secret of the test's own"
N = 400
START = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def sales():
    generator = np.random.default_rng(5)
    contract = parse_contract(SALES)
    rows = {
        "transaction_id": [f"B{number}" for number in range(N)],
        "event_timestamp": [START + timedelta(minutes=97 * number) for number in range(N)],
        "amount": generator.lognormal(3, 1, N).round(2),
        "risiko": generator.random(N),
        "kanal": [("Laden", "Netz", None)[number % 3] for number in range(N)],
    }
    return contract, pa.table(rows, schema=contract.transactions_schema())


@pytest.fixture(scope="module")
def bento(sales, tmp_path_factory):
    """It holds everything: its threshold is 0."""
    contract, table = sales
    features = compute_features(
        table, contract.labels_schema().empty_table(), contract, start=START, end=START + timedelta(days=90)
    )
    onnx, manifest = trained(SALES, features, table["risiko"].to_numpy() > 0.7, threshold=0.0)
    return build_bento(onnx, manifest, bentoml_home=tmp_path_factory.mktemp("sales"), project_root=ROOT)


@pytest.fixture
def url(postgres):
    """An empty database with the platform's tables."""
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS verkauf WITH (FORCE)")
        connection.execute("CREATE DATABASE verkauf")
    address = postgres.get_uri("verkauf")
    schema.upgrade(address)
    return address


@contextmanager
def standing_still(url):
    """Every process of the server is stopped in the middle of what it does until the block ends."""
    with psycopg.connect(url) as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone()
        server = psutil.Process(pid).parent()
    stopped = [server, *server.children()]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(stopped):
            process.resume()


def stored(url, columns="transaction_id"):
    with psycopg.connect(url) as connection:
        return connection.execute(f"SELECT {columns} FROM scored_transactions ORDER BY transaction_id").fetchall()


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it has not come to pass"
        time.sleep(0.05)


def metric(client, name):
    text = client.get("/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def ask(client, rows):
    response = client.post("/v1/score", json={"transactions": rows})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def serve(bento, tmp_path, url, name="serve", **more):
    given = {"FRAUD_DATABASE_URL": url, "FRAUD_SCORES_FOLDER": str(tmp_path / "scores")} | more
    return served(bento, tmp_path / name, **given)


# What is kept


def test_a_row_has_what_was_answered_and_what_it_was_computed_from(
    card_bento, card_model, cards, database_url, tmp_path
):
    """With customers and terminals: the features that are kept are those that the scores were made of, to the bit."""
    schema.upgrade(database_url)
    contract, transactions, statements = cards
    batch = transactions.slice(2300, 20)
    with serve(card_bento, tmp_path, database_url) as client:
        answers = ask(client, transaction_rows(batch))
        again = ask(client, transaction_rows(batch))
        wait_for(lambda: len(stored(database_url)) == 20)
        wait_for(lambda: metric(client, 'fraud_scorer_kept_total{outcome="known"}') == 20)
    assert again == answers
    moments = batch["event_timestamp"].to_pylist()
    made = compute_features(
        transactions, statements, contract, start=moments[0], end=moments[-1] + timedelta(microseconds=1)
    )
    expected = {row["transaction_id"]: row for row in made.to_pylist()}
    rows = stored(
        database_url,
        "transaction_id, event_timestamp, transaction, probability, threshold, decision, model_version, features, "
        "passed_through, pass_through_probability, raw_score",
    )
    told = {str(answer["transaction_id"]): answer for answer in answers}
    given = {str(row["transaction_id"]): row for row in batch.to_pylist()}
    for key, moment, transaction, probability, threshold, decision, version, features, passed, chance, raw in rows:
        assert (probability, decision, version) == (
            told[key]["probability"], told[key]["decision"], told[key]["model_version"],
        )  # fmt: skip
        assert (threshold, passed, chance, moment) == (0.3, False, 0.0, given[key]["event_timestamp"])
        assert set(transaction) == {*contract.entities, "amount", *contract.attributes}
        assert transaction["terminal_id"] == given[key]["terminal_id"]
        # This model is not calibrated.
        assert 1 / (1 + np.exp(-raw)) == pytest.approx(probability, abs=1e-12)
        for name in card_model[1].features:
            value = expected[int(key)][name]
            assert features[name] == (None if value != value else value), name


def test_without_a_folder_nothing_is_kept_and_the_log_says_so(bento, sales, url, tmp_path):
    with served(
        bento,
        tmp_path / "serve",
        FRAUD_DATABASE_URL=url,
        FRAUD_PASS_THROUGH="0.1",
        FRAUD_PASS_THROUGH_AMOUNT="1e9",
        FRAUD_PASS_THROUGH_SEED=SEED,
    ) as client:
        answers = ask(client, transaction_rows(sales[1]))
        assert {answer["decision"] for answer in answers} == {"review"}
        assert "scores are not kept: set FRAUD_SCORES_FOLDER" in client.log()
    assert stored(url) == []


# Lists and rules beside the model

RULES = (
    CARDS
    + """
sets: {known: [chip]}
rules:
  - {name: online, when: channel not in known, action: review, version: 3}
  - {name: often, when: customer_count_30d >= 1000 or amount < 0, action: decline}
"""
)


def said_of(client, rows):
    return [(answer["decision"], answer["decided_by"]) for answer in ask(client, rows)]


def test_lists_and_rules_decide_before_the_model_and_rows_say_who(card_bento, cards, database_url, tmp_path):
    schema.upgrade(database_url)
    contract, transactions, _ = cards
    rows = transaction_rows(transactions.slice(2200, 40))
    for number, row in enumerate(rows):
        row["transaction_id"] = 900_000 + number
    # Three customers, so that a list is about one of them.
    chip = next(row for row in rows if row.get("channel") == "chip")
    online, other = (
        next(row for row in rows if row.get("channel") == channel and row["customer_id"] != chip["customer_id"])
        for channel in ("online", None)
    )
    file = tmp_path / "contract.yaml"
    file.write_text(RULES)
    with (
        serve(card_bento, tmp_path, database_url, FRAUD_RULES_FILE=str(file)) as client,
        lists_session(database_url) as session,
    ):
        plain = ask(client, [chip])[0]
        assert plain["decided_by"] == "model"
        # Of a channel that is not known it is not known whether it is among the known ones.
        assert [by for _, by in said_of(client, [online, other])] == ["rule online@3", "model"]
        told = client.get("/v1/model").json()
        assert [(one["name"], one["version"], one["action"]) for one in told["rules"]] == [
            ("online", 3, "review"), ("often", 1, "decline"),
        ]  # fmt: skip

        def change(name, row, action):
            add_to_list(
                session, contract, name, [str(row["customer_id"])], entity="customer_id", action=action,
                reason="seen by the test", until=None, now=datetime.now(UTC),
            )  # fmt: skip

        change("stolen", chip, "block")
        wait_for(lambda: said_of(client, [chip]) == [("decline", "list stolen")])
        again = ask(client, [chip])[0]
        assert again["probability"] == plain["probability"]
        change("good", online, "allow")
        wait_for(lambda: said_of(client, [online]) == [("approve", "list good")])
        # Several at once are decided by the same.
        many = said_of(client, [chip, online])
        assert many == [("decline", "list stolen"), ("approve", "list good")]
        # A rule that declines is stronger than an allow list; a file that cannot be used changes nothing.
        file.write_text(RULES.replace("amount < 0", "amount >= 0"))
        wait_for(lambda: said_of(client, [online]) == [("decline", "rule often@1")])
        file.write_text(RULES.replace("amount < 0", "amuont >= 0"))
        wait_for(lambda: "did you mean 'amount'" in (client.get("/v1/model").json()["rules_refused"] or ""))
        assert said_of(client, [online]) == [("decline", "rule often@1")]
        file.write_text(RULES)
        remove_from_list(session, contract, "stolen", [str(chip["customer_id"])], reason="it was found again")
        wait_for(lambda: said_of(client, [chip]) == [(plain["decision"], "model")])
        assert client.get("/v1/model").json()["rules_refused"] is None
        last = dict(chip, transaction_id=900_100)
        change("stolen", chip, "block")
        wait_for(lambda: said_of(client, [last])[0][0] == "decline")
        wait_for(lambda: ("900100",) in stored(database_url))
        assert metric(client, 'fraud_scorer_decided_total{by="list stolen"}') > 0
        log = client.log()
    kept = {key: found for key, *found in stored(database_url, "transaction_id, decision, answered, decided_by")}
    assert kept[str(online["transaction_id"])][1:] == ["review", "rule online@3"]
    assert kept[str(chip["transaction_id"])][1:] == [plain["decision"], "model"]
    assert "changes of lists are in force" in log
    assert f"'{chip['customer_id']}'" not in log


# The breaker


def test_a_model_that_holds_all_gives_way_to_the_champion_before_until_a_person_lets_it_answer_again(
    bento, sales, url, tmp_path
):
    """The live model holds everything; the one before it lets everything through."""
    contract, table = sales
    features = compute_features(
        table, contract.labels_schema().empty_table(), contract, start=START, end=START + timedelta(days=90)
    )
    onnx, manifest = trained(SALES, features, table["risiko"].to_numpy() > 0.7, threshold=1.0, model_version=4)
    before = build_bento(onnx, manifest, bentoml_home=store_of(bento), project_root=ROOT)
    digests = {name: digest for name, digest in before.digests.items() if name != "bento"}
    folder = before.path.relative_to(store_of(bento)).as_posix()
    name_for_serving(bento, 5, previous=LiveModel(4, 1, "h", before.tag, folder, digests))
    live = {LIVE_VARIABLE: str(store_of(bento) / LIVE_FILE)}
    limits = {"FRAUD_BREAKER_SHARE": "0.5", "FRAUD_BREAKER_SCORES": "100"}
    rows = transaction_rows(table)
    with serve(bento, tmp_path, url, **live, **limits) as client, lists_session(url) as session:
        wait_for(lambda: client.get("/v1/model").json()["ledger"])
        assert client.get("/v1/model").json()["breaker"]["state"] == "closed"

        def answered(some):
            answer = client.post("/v1/score", json={"transactions": some}).json()
            decisions = {one["decision"] for one in answer["results"]}
            return answer["model_version"], answer.get("breaker"), decisions

        assert answered(rows[:99]) == (5, None, {"review"})
        answered(rows[99:100])
        wait_for(lambda: answered(rows[100:101]) == (4, "previous", {"approve"}))
        told = client.get("/v1/model").json()
        assert (told["model_version"], told["breaker"]["state"], told["breaker"]["answers"]) == (5, "open", 4)
        assert metric(client, "fraud_scorer_breaker_open") == 1
        assert "THE BREAKER IS OPEN (previous): 100 of 100 transactions" in client.log()
        wait_for(lambda: [one.event for one in last_events(session, 5)] == ["opened"])
        wait_for(lambda: ("B100", 4) in stored(url, "transaction_id, model_version"))
        record_closing(session, "seen by the test", "ada")
        wait_for(lambda: answered(rows[101:102]) == (5, None, {"review"}))
        assert "the breaker is closed by ada: seen by the test" in client.log()


# Outages


def test_an_outage_under_requests_slows_nobody_down_and_loses_nothing(bento, sales, url, postgres, tmp_path):
    rows = transaction_rows(sales[1])
    with serve(bento, tmp_path, url) as client:
        ask(client, rows[:1])
        wait_for(lambda: stored(url))
        usual, slow, done = [], [], 1

        def some(n, took):
            nonlocal done
            for row in rows[done : done + n]:
                began = time.perf_counter()
                ask(client, [row])
                took.append(time.perf_counter() - began)
                time.sleep(0.02)
            done += n

        some(60, usual)
        with closed_database(postgres, "verkauf"):
            some(120, slow)
            wait_for(lambda: metric(client, "fraud_scorer_spool_bytes") > 0)
        with standing_still(url):
            some(120, slow)
            assert client.get("/livez").status_code == 200
        some(N - done, usual)
        wait_for(lambda: len(stored(url)) == N)
        wait_for(lambda: metric(client, "fraud_scorer_spool_bytes") == 0)
        assert metric(client, 'fraud_scorer_kept_total{outcome="lost"}') == 0
        # Between the halves of both: single requests of a busy machine take long, whatever is stored.
        assert np.median(slow) < 3 * np.median(usual) + 0.01
        assert "the database takes scores again" in client.log()


def test_a_service_that_is_killed_in_an_outage_leaves_its_scores_to_the_next(bento, sales, url, postgres, tmp_path):
    rows = transaction_rows(sales[1])
    with closed_database(postgres, "verkauf"):
        with serve(bento, tmp_path, url, "first") as client:
            for start in range(0, 300, 10):
                ask(client, rows[start : start + 10])
            # What was answered within this time may not be written yet.
            time.sleep(0.2)
            for process in [*psutil.Process(client.pid).children(recursive=True), psutil.Process(client.pid)]:
                process.kill()
        (left,) = [path for path in (tmp_path / "scores").glob("*.spool") if path.stat().st_size]
        with left.open("ab") as file:
            file.write(b'00000000 {"transaction_id": "torn o')
    with serve(bento, tmp_path, url, "second") as client:
        wait_for(lambda: len(stored(url)) == 300)
        ask(client, rows[290:310])
        wait_for(lambda: len(stored(url)) == 310)
        wait_for(lambda: metric(client, 'fraud_scorer_kept_total{outcome="damaged"}') == 1)
    assert [path.name for path in (tmp_path / "scores").glob("*.spool")] == []
    state, alive = read_states(tmp_path / "scores")
    assert (state.stored, state.known, state.damaged, state.n_lost, alive) == (310, 10, 1, 0, 0)


def test_a_full_spool_refuses_no_request_and_tells_what_is_lost(bento, sales, url, postgres, tmp_path):
    rows = transaction_rows(sales[1])
    with serve(bento, tmp_path, url, FRAUD_SCORES_SPOOL_MB="0.01") as client:
        with closed_database(postgres, "verkauf"):
            for row in rows[:100]:
                ask(client, [row])
            wait_for(lambda: metric(client, 'fraud_scorer_kept_total{outcome="lost"}') > 0)
            assert sum(path.stat().st_size for path in (tmp_path / "scores").glob("*.spool")) <= 0.01 * 2**20
        wait_for(lambda: metric(client, "fraud_scorer_spool_bytes") == 0)
        lost = metric(client, 'fraud_scorer_kept_total{outcome="lost"}')
        assert len(stored(url)) + lost == 100
        assert "scores are lost" in client.log()
        assert "passed_through" in client.get("/docs.json").text
        ask(client, rows[200:201])
        wait_for(lambda: len(stored(url)) + lost == 101)
    assert read_states(tmp_path / "scores")[0].lost == {"spool_full": lost}


def test_a_full_disk_refuses_no_request_and_loses_nothing_while_the_database_is_there(bento, sales, url, tmp_path):
    folder = tmp_path / "scores"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk; adapters/scores/test_keeper.py tries the same without one")
    try:
        (folder / "other").write_bytes(b"x" * (16 * 2**10))
        with serve(bento, tmp_path, url) as client:
            ask(client, transaction_rows(sales[1]))
            wait_for(lambda: len(stored(url)) == N)
            assert "the spool cannot be written: No space left on device" in client.log()
            assert metric(client, 'fraud_scorer_kept_total{outcome="lost"}') == 0
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# Pass-through


def test_a_share_of_what_would_be_held_is_let_through_told_and_kept_and_the_same_again(bento, sales, url, tmp_path):
    rows = transaction_rows(sales[1])
    rule = {"FRAUD_PASS_THROUGH": "0.1", "FRAUD_PASS_THROUGH_AMOUNT": "40", "FRAUD_PASS_THROUGH_SEED": SEED}
    with serve(bento, tmp_path, url, "first", **rule) as client:
        answers = ask(client, rows)
        assert ask(client, rows) == answers
        wait_for(lambda: len(stored(url)) == N)
        assert metric(client, "fraud_scorer_passed_through_total") > 0
    with serve(bento, tmp_path, url, "second", **rule) as client:
        assert [ask(client, [row])[0] for row in rows[:50]] == answers[:50]
    amounts = {row["transaction_id"]: row["amount"] for row in rows}
    able = {key for key, amount in amounts.items() if amount <= 40}
    passed = {answer["transaction_id"] for answer in answers if answer.get("passed_through")}
    assert {answer["transaction_id"] for answer in answers if answer["decision"] == "approve"} == passed
    assert passed <= able
    n = len(able)
    assert abs(len(passed) - 0.1 * n) < 4 * np.sqrt(n * 0.1 * 0.9)
    for key, decision, through, chance in stored(
        url, "transaction_id, decision, passed_through, pass_through_probability"
    ):
        # What the model said, not what became of it.
        assert (decision, through, chance) == ("review", key in passed, 0.1 if key in able else 0.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"FRAUD_PASS_THROUGH": "0.5", "FRAUD_PASS_THROUGH_SEED": SEED}, "it is 0 to 0.1"),
        ({"FRAUD_PASS_THROUGH": "much"}, "FRAUD_PASS_THROUGH is 'much', which is no number"),
        ({"FRAUD_PASS_THROUGH": "0.1"}, "the secret seed has 0 bytes"),
    ],
)
def test_a_pass_through_that_cannot_be_is_refused_at_the_start(given, said):
    from bentos.fraud_scorer.keeping import Keeping

    with pytest.raises(ValueError, match=said):
        Keeping(given)
