"""Challengers beside a served bento: what they do harms no answer, and whom one answers always meets the same model.

The service runs as it is deployed; the challengers are models that are slow, fail, or are not there.
"""

import json
import shutil
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import psutil
import psycopg
import pytest
from onnx import TensorProto, helper

from fraud_assets.adapters.live_bento import write_challengers
from fraud_assets.adapters.postgres import schema
from fraud_assets.core.models.live import LIVE_FILE, LIVE_VARIABLE
from fraud_assets.core.models.scoring import INPUT_NAME, OUTPUT_NAME, Scorer, digest_model
from fraud_assets.core.rollout.challengers import Challenger, Challengers
from fraud_assets_tests.card_service import (
    CARDS,
    card_bento,
    card_features,
    card_model,
    cards,
    database_url,
    postgres,
    served,
    store_of,
    trained,
    transaction_rows,
)

__all__ = ["card_bento", "card_features", "card_model", "cards", "database_url", "postgres"]

N = 120
GOOD, FAILING, SLOW, GONE = 6, 7, 8, 9


def made_of(nodes, width):
    """A model with the service's input and output."""
    graph = helper.make_graph(
        nodes, "challenger",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value, name))


def failing(width):
    """Half for a row of zeros, as a self-test has it; nothing for any other."""
    return made_of(
        [
            constant("axes", np.array([1], dtype=np.int64)),
            constant("half", np.array(0.5, dtype=np.float32)),
            helper.make_node("ReduceSumSquare", [INPUT_NAME, "axes"], ["size"], keepdims=0),
            helper.make_node("Neg", ["size"], ["below"]),
            helper.make_node("Sqrt", ["below"], ["none"]),
            helper.make_node("Add", ["none", "half"], [OUTPUT_NAME]),
        ],
        width,
    )


def slow(width):
    """Counts to a thousand million first."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Add", ["sum", "one"], ["sum_out"])],
        "count",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, []),
        ],
    )
    return made_of(
        [
            constant("times", np.array(10**9, dtype=np.int64)),
            constant("go", np.array(True)),
            constant("zero", np.array(0, dtype=np.float32)),
            constant("one", np.array(1, dtype=np.float32)),
            constant("axes", np.array([1], dtype=np.int64)),
            helper.make_node("Loop", ["times", "go", "zero"], ["counted"], body=body),
            helper.make_node("ReduceMean", [INPUT_NAME, "axes"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "counted"], ["both"]),
            helper.make_node("Sigmoid", ["both"], [OUTPUT_NAME]),
        ],
        width,
    )


@pytest.fixture(scope="module")
def challengers(card_bento, card_model, card_features):
    """By version the challenger and its model; the bentos are the champion's with other models in them."""
    store, (_, manifest) = store_of(card_bento), card_model
    width = len(manifest.encoding.columns)
    y = np.nan_to_num(card_features["customer_amount_ratio"].to_numpy(zero_copy_only=False)) > 2
    good, own = trained(CARDS, card_features, y, model_version=GOOD, threshold=0.6)
    found = {}
    for version, content in {GOOD: good, FAILING: failing(width), SLOW: slow(width)}.items():
        told = own if version == GOOD else manifest
        told = told.model_copy(update={"model_version": version, "model_digest": digest_model(content)})
        folder = card_bento.path.with_name(f"challenger-{version}")
        shutil.copytree(card_bento.path, folder)
        files = folder / "src" / "bentos" / "fraud_scorer" / "model"
        (files / "model.onnx").write_bytes(content)
        (files / "manifest.json").write_text(told.to_json())
        named = Challenger(
            version, f"fraud_scorer:challenger-{version}", folder.relative_to(store).as_posix(), told.digests
        )
        found[version] = (named, (content, told))
    gone = replace(found[GOOD][0], model_version=GONE, folder="bentos/fraud_scorer/challenger-9")
    return found | {GONE: (gone, None)}


@pytest.fixture
def client(card_bento, database_url, tmp_path):
    schema.upgrade(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("TRUNCATE scored_transactions, shadow_scores, shadow_months, shadow_progress")
    environment = {
        "FRAUD_DATABASE_URL": database_url,
        "FRAUD_SCORES_FOLDER": str(tmp_path / "scores"),
        LIVE_VARIABLE: str(store_of(card_bento) / LIVE_FILE),
    }
    with served(card_bento, tmp_path / "serve", **environment) as client:
        yield client
        write_challengers(store_of(card_bento), Challengers(5))


def query(url, statement):
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def wait_for(condition, client, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, client.log()
        time.sleep(0.1)


def ask(client, rows):
    response = client.post("/v1/score", json={"transactions": rows})
    assert response.status_code == 200, response.text
    return response.json()


def shadows(client):
    """The processes that score in the shadow; one that has just ended is none."""
    found = []
    for one in psutil.Process(client.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "challengers.shadow" in " ".join(one.cmdline()):
                found.append(one)
    return found


def test_no_challenger_changes_an_answer_however_slow_wrong_or_gone_it_is(
    client, challengers, card_bento, cards, database_url
):
    rows = transaction_rows(cards[1].slice(2000, N))
    alone = [ask(client, rows[at : at + 10]) for at in range(0, N, 10)]
    wait_for(lambda: query(database_url, "SELECT count(*) FROM scored_transactions") == [(N,)], client)
    query(database_url, "DELETE FROM scored_transactions RETURNING 1")
    write_challengers(store_of(card_bento), Challengers(5, tuple(challengers[one][0] for one in (GOOD, FAILING, SLOW))))
    wait_for(lambda: query(database_url, "SELECT count(*) FROM shadow_progress") == [(3,)], client)
    assert len(shadows(client)) == 3
    beside, took = [], []
    for at in range(0, N, 10):
        began = time.perf_counter()
        beside.append(ask(client, rows[at : at + 10]))
        took.append(time.perf_counter() - began)
    assert beside == alone
    # Long before the slow one is through with the first of them.
    assert np.median(took) < 1

    def outcomes(version):
        return dict(
            query(
                database_url, f"SELECT outcome, count(*) FROM shadow_scores WHERE model_version = {version} GROUP BY 1"
            )
        )

    wait_for(lambda: outcomes(GOOD) == {"scored": N} and outcomes(FAILING) == {"failed": N}, client)
    content, manifest = challengers[GOOD][1]
    kept = query(
        database_url,
        "SELECT x.probability, s.features, x.decision, x.role FROM shadow_scores x JOIN scored_transactions s "
        f"USING (transaction_id) WHERE x.model_version = {GOOD}",
    )
    expected = Scorer(content, manifest).score_rows([features for _, features, _, _ in kept])
    assert [row[0] for row in kept] == pytest.approx(expected.tolist(), abs=1e-9)
    assert {row[3] for row in kept} == {"challenger"}
    assert [row[2] for row in kept] == ["review" if one >= manifest.threshold else "approve" for one in expected]
    # The slow one is ended by its deadline and begins after what it was ended at.
    wait_for(lambda: outcomes(SLOW).get("late", 0) > 0, client, 90)
    assert "version 8 scores no more in the shadow (it took too long)" in client.log()
    # One that is gone is refused, and those that are named no more end.
    write_challengers(store_of(card_bento), Challengers(5, (challengers[GONE][0],)))
    wait_for(lambda: "version 9 is no challenger" in client.log() and not shadows(client), client)
    assert ask(client, rows[:10]) == alone[0]


def test_a_customer_always_meets_the_same_model_and_what_answered_is_told_and_kept(
    client, challengers, card_bento, cards, database_url
):
    batch = cards[1].slice(2200, N)
    rows, customers = transaction_rows(batch), batch["customer_id"].to_pylist()
    named = Challengers(
        5, (replace(challengers[GOOD][0], share=0.4, key="a"), replace(challengers[FAILING][0], share=0.1, key="b"))
    )
    expected = [
        GOOD if (one := named.chosen(customer)) is not None and one.model_version == GOOD else 5
        for customer in customers
    ]
    assert min(Counter(expected).values()) > 10
    write_challengers(store_of(card_bento), named)
    wait_for(lambda: query(database_url, "SELECT count(*) FROM shadow_progress") == [(3,)], client)
    together = ask(client, rows)
    assert together["model_version"] == 5
    # Where the challenger cannot score, the champion answers.
    assert [result["model_version"] for result in together["results"]] == expected
    assert [result["transaction_id"] for result in together["results"]] == [row["transaction_id"] for row in rows]
    assert "version 7 cannot score, and the champion answers" in client.log()
    alone = [ask(client, [row]) for row in rows[:40]]
    assert [one["model_version"] for one in alone] == expected[:40]
    threshold = challengers[GOOD][1][1].threshold
    for answer, version in zip(alone, expected, strict=False):
        (result,) = answer["results"]
        assert answer["threshold"] == (threshold if version == GOOD else 0.3)
        assert (result["decision"] == "review") == (result["probability"] >= answer["threshold"])
    wait_for(lambda: query(database_url, "SELECT count(*) FROM scored_transactions") == [(N,)], client)
    kept = dict(query(database_url, "SELECT transaction_id, model_version || ' ' || role FROM scored_transactions"))
    roles = {GOOD: f"{GOOD} challenger", 5: "5 champion"}
    assert kept == {str(row["transaction_id"]): roles[one] for row, one in zip(rows, expected, strict=True)}
    # The other of the two says in the shadow what it would have answered.
    wait_for(
        lambda: query(
            database_url,
            "SELECT role, count(*) FROM shadow_scores WHERE outcome = 'scored' GROUP BY 1 ORDER BY 1",
        ) == [("challenger", expected.count(5)), ("champion", expected.count(GOOD))],
        client,
    )  # fmt: skip
    # Named beside another champion, nobody is answered by it.
    write_challengers(store_of(card_bento), replace(named, champion_version=4))
    wait_for(lambda: {one["model_version"] for one in ask(client, rows)["results"]} == {5}, client)
    assert json.loads(client.get("/docs.json").text)
