"""The service as it runs, without a database: what it answers and refuses, what it counts, and which model answers."""

import gzip
import json
import shutil
import threading
import time
from collections import Counter

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest

from bentos.fraud_scorer.limits import MAX_BODY_BYTES
from bentos.fraud_scorer.requests import MAX_EXPLAINED_ROWS, MAX_ROWS
from fraud_assets.adapters.bento import build_bento
from fraud_assets.adapters.live_bento import read_services
from fraud_assets.core.explanations.reason_codes import ReasonWriter
from fraud_assets.core.models.live import LIVE_FILE, LIVE_VARIABLE
from fraud_assets.core.models.scoring import Scorer
from fraud_assets_tests.card_service import (
    CARDS,
    ROOT,
    card_bento,
    card_features,
    card_model,
    cards,
    feature_rows,
    good_row,
    name_for_serving,
    places,
    probabilities,
    served,
    store_of,
    trained,
    transaction_rows,
)

__all__ = ["card_bento", "card_features", "card_model", "cards"]


@pytest.fixture(scope="module")
def service(card_bento, tmp_path_factory):
    """The cards' service without a database; it follows a file that is not there yet."""
    environment = {LIVE_VARIABLE: str(store_of(card_bento) / LIVE_FILE)}
    with served(card_bento, tmp_path_factory.mktemp("serve") / "plain", **environment) as client:
        yield client


# --- Features -----------------------------------------------------------------------------------------------


def test_every_process_of_the_service_runs_without_training_and_orchestration(service):
    workers = {process.pid for process in psutil.Process(service.pid).children(recursive=True)}
    assert workers
    assert workers | {service.pid} <= service.without_training


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


# --- Following what is live ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("path", ["/", "/docs.json", "/static_content/swagger-ui-bundle.js"])
def test_the_service_s_page_may_load_nothing_from_elsewhere(service, path):
    """BentoML's page asks for a tag manager of another company; the browser is told not to."""
    response = service.get(path)
    assert response.status_code == 200
    allowed = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert allowed["default-src"] == "'self'"
    assert "script-src" not in allowed
    assert not [rule for rule in allowed.values() if "http" in rule or "*" in rule]


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
