"""Transactions, scored by the service as it runs, with a real PostgreSQL that holds what was before them."""

import json
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from select import select

import httpx
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import load_from_string

from bentos.fraud_scorer.waiting.rounds import MOST_AT_ONCE
from fraud_assets.adapters.bento import build_bento
from fraud_assets.adapters.online import history as history_module
from fraud_assets.adapters.online.history import History, HistoryError
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.features.declarations import history_days
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.models.scoring import Scorer, digest_model
from fraud_assets_tests.card_service import (
    CARDS,
    REGISTRATIONS,
    ROOT,
    TEXTS,
    VALUES,
    card_bento,
    card_features,
    card_model,
    cards,
    closed_database,
    database_url,
    good_row,
    own_names,
    places,
    postgres,
    probabilities,
    served,
    trained,
    transaction_rows,
)

__all__ = ["card_bento", "card_features", "card_model", "cards", "database_url", "postgres"]


@pytest.fixture(scope="module")
def service_with_history(card_bento, database_url, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "history"
    with served(card_bento, folder, FRAUD_DATABASE_URL=database_url) as client:
        yield client


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


# The service is the same for every example; nothing of one is left for the next.
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


def test_with_far_too_many_callers_at_once_health_is_told_before_they_are_answered_and_the_rest_are_told_to_wait(
    service_with_history, cards
):
    """All of them have sent before it is asked whether the service lives: that it comes last is no reason to wait."""
    rows = transaction_rows(cards[1].slice(500))
    address = (service_with_history.base_url.host, service_with_history.base_url.port)

    def asks(path, body=None):
        line = (
            f"GET {path} HTTP/1.1\r\n"
            if body is None
            else f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n"
        )
        kept = "close" if body is None else "keep-alive"
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        return f"{line}Host: localhost\r\nConnection: {kept}\r\n{length}\r\n".encode() + (body or b"")

    with ExitStack() as stack:
        callers = [stack.enter_context(closing(socket.create_connection(address, 60))) for _ in range(900)]
        for number, caller in enumerate(callers):
            row = rows[number % len(rows)] | {"transaction_id": 800_000 + number}
            caller.sendall(asks("/v1/score", json.dumps({"transactions": [row]}).encode()))
        told = []
        for path in ("/livez", "/readyz"):
            other = stack.enter_context(closing(socket.create_connection(address, 60)))
            other.sendall(asks(path))
            with other.makefile("rb") as answer:
                told.append(answer.readline().split()[1])
        waiting = [caller for caller in callers if not select([caller], [], [], 0)[0]]
        statuses = Counter(caller.makefile("rb").readline().split()[1] for caller in callers)
    assert told == [b"200", b"200"]
    assert waiting
    assert set(statuses) <= {b"200", b"429", b"504"}
    assert statuses[b"200"] > 0
    assert statuses[b"429"] < len(callers) - MOST_AT_ONCE + 1


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


def test_reasons_are_given_for_transactions_as_many_as_are_asked_for(service_with_history, cards):
    body = {"transactions": transaction_rows(cards[1].slice(2300, 3)), "explain": 2}
    answer = service_with_history.post("/score", json=body)
    assert answer.status_code == 200, answer.text
    assert [len(result["explanation"]["reasons"]) for result in answer.json()["results"]] == [2, 2, 2]


# --- The reader of the history ------------------------------------------------------------------------------


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
    monkeypatch.setattr(history_module, "STATEMENT_SECONDS", 1)
    history.close()
    # Over a connection that was good until now: one that was cut would be tried again.
    history.check()
    asked, fetch = [], history_module._Connection.fetch

    def noted(connection, sql, *more):
        asked.append(sql)
        return fetch(connection, sql, *more)

    monkeypatch.setattr(history_module._Connection, "fetch", noted)
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE raw_transactions")
        with pytest.raises(HistoryError, match="did not answer in time"):
            history.before(cards[1].slice(0, 1))
    assert len(asked) == 1


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
