"""The routes of the running service, its description, and who may ask for what.

What is scored, and every way in which a request can be wrong, is tested in `test_service.py`.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from socket import AF_INET

import httpx
import psutil
import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.browser import open_browser, try_a_request
from fraud_assets.adapters.key_file import change_keys
from fraud_assets.adapters.postgres import schema
from fraud_assets.adapters.postgres.approvals import ask, open_answers, refuse_answer
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.access.addresses import is_loopback
from fraud_assets.core.access.api_keys import KEYS_VARIABLE, hash_key, make_key, without_key
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.labels.feed import layouts, read_statements
from fraud_assets.core.models.live import LIVE_FILE, LIVE_VARIABLE
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.workflows.labels import added_statements, record_added
from fraud_assets_tests.browser import require_browser
from fraud_assets_tests.card_service import (
    TEXTS,
    VALUES,
    card_bento,
    card_features,
    card_model,
    cards,
    closed_database,
    database_url,
    feature_rows,
    name_for_serving,
    own_names,
    places,
    postgres,
    probabilities,
    served,
    store_of,
    transaction_rows,
)

AS_DESCRIBED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

__all__ = ["card_bento", "card_features", "card_model", "cards", "database_url", "postgres"]


@pytest.fixture(scope="module")
def service(card_bento, database_url, key_file, tmp_path_factory):
    """The cards' service with the platform's database; it listens on all addresses, and follows what is named live."""
    schema.upgrade(database_url)
    folder = tmp_path_factory.mktemp("serve") / "api"
    name_for_serving(card_bento, 5, entry=17, since="2024-07-02T08:00:00+00:00", row=19, hash="ab")
    named = {LIVE_VARIABLE: str(store_of(card_bento) / LIVE_FILE), KEYS_VARIABLE: str(key_file)}
    with served(card_bento, folder, host="0.0.0.0", FRAUD_DATABASE_URL=database_url, **named) as client:
        yield client


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    """Where the service looks for keys; there is no file until a test asks for `keys`."""
    return tmp_path_factory.mktemp("keys") / "keys" / "api-keys.json"


def within(seconds, what):
    """The first truthy value of `what`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


# --- Routes -------------------------------------------------------------------------------------------------


def test_transactions_and_features_have_a_route_each_and_the_old_one_answers_the_same(
    service, cards, card_features, card_model
):
    transactions = {"transactions": transaction_rows(cards[1].slice(2300, 3))}
    features = {"features": feature_rows(card_features.slice(0, 3), card_model[1])}
    for route, body in (("/v1/score", transactions), ("/v1/score/features", features)):
        answer = service.post(route, json=body | {"explain": 2})
        assert len(probabilities(answer)) == 3
        assert answer.json() == service.post("/score", json=body | {"explain": 2}).json()
        assert {len(one["explanation"]["reasons"]) for one in answer.json()["results"]} == {2}


def test_each_route_takes_its_own_rows_alone(service, cards, card_features, card_model):
    transactions = {"transactions": transaction_rows(cards[1].slice(2300, 1))}
    features = {"features": feature_rows(card_features.slice(0, 1), card_model[1])}
    assert places(service.post("/v1/score", json=features)) == {"transactions", "features"}
    assert places(service.post("/v1/score/features", json=transactions)) == {"features", "transactions"}
    assert places(service.post("/v1/score", json=transactions | {"url": "http://example.org"})) == {"url"}


def test_each_transaction_s_answer_says_of_which_moment_its_features_are(service, cards):
    rows = transaction_rows(cards[1].slice(2300, 2))
    rows[0]["event_timestamp"] = "2024-06-20T14:00:00.5+02:00"
    answer = service.post("/v1/score", json={"transactions": rows}).json()
    told = [datetime.fromisoformat(one["feature_time"]) for one in answer["results"]]
    assert answer["results"][0]["feature_time"].endswith("Z")
    assert told == [datetime(2024, 6, 20, 12, 0, 0, 500_000, UTC), cards[1]["event_timestamp"][2301].as_py()]


def test_a_customer_s_payments_at_two_services_of_one_database_are_seen_by_both(
    service, card_bento, card_model, cards, database_url, tmp_path
):
    """Two processes that know of each other by the database alone, and a customer nobody has met before."""
    contract, schema_of = cards[0], cards[0].transactions_schema()
    start = datetime(2024, 6, 25, 12, tzinfo=UTC)
    payments = pa.Table.from_pylist(
        [
            {
                "transaction_id": 900_000 + number, "event_timestamp": start + timedelta(seconds=9 * number),
                "customer_id": 4_001, "terminal_id": "T4001", "amount": amount, "channel": "chip", "age_days": 5,
                "expires": None, "present": True,
            }
            for number, amount in enumerate([20.0, 21.0, 19.0, 900.0])
        ],
        schema=schema_of,
    )  # fmt: skip
    nothing = contract.labels_schema().empty_table()

    def expected(rows):
        made = compute_features(rows, nothing, contract, start=start, end=start + timedelta(minutes=1))
        return Scorer(*card_model).score_table(made.sort_by("transaction_id"))["score"].to_pylist()

    with served(card_bento, tmp_path / "second", FRAUD_DATABASE_URL=database_url) as second:
        answered = []
        for number, row in enumerate(transaction_rows(payments)):
            answered += probabilities((service, second)[number % 2].post("/v1/score", json={"transactions": [row]}))
            # How soon the other one sees it is said in docs/online-history.md; here it shall only see it.
            time.sleep(2)
    assert answered == pytest.approx(expected(payments), abs=1e-6)
    of_one_alone = expected(payments.take([1, 3]))
    assert answered[3] != pytest.approx(of_one_alone[-1], abs=1e-4), "the others' payments made no difference"


def test_the_live_model_is_told_with_its_ledger_entry_and_since_when(service, card_bento, card_model):
    manifest = card_model[1]
    told = within(20, lambda: (found := service.get("/v1/model").json())["ledger"] and found)
    assert told["ledger"] == {
        "since": "2024-07-02T08:00:00Z", "entry": 17, "last_row": 19, "last_hash": "ab", "bento": card_bento.tag,
    }  # fmt: skip
    assert (told["model_name"], told["model_version"], told["threshold"]) == ("cards", 5, 0.3)
    assert told["digests"] == {"model.onnx": manifest.model_digest, "manifest.json": manifest.digests["manifest.json"]}
    assert datetime.fromisoformat(told["answers_since"]) < datetime.now(UTC)
    assert told["refused"] is None


def test_a_model_that_was_not_taken_is_told(service, card_bento):
    name_for_serving(card_bento, 6, digests={"model.onnx": "0" * 64})
    told = within(20, lambda: (found := service.get("/v1/model").json())["refused"] and found)
    assert (told["model_version"], told["ledger"]["entry"]) == (5, 17)
    assert "is not the file that was promoted" in told["refused"]
    name_for_serving(card_bento, 5, entry=17, since="2024-07-02T08:00:00+00:00")
    within(20, lambda: not service.get("/v1/model").json()["refused"])


# --- The description ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description(service):
    return service.get("/docs.json").json()


@pytest.mark.parametrize("route", ["/v1/score", "/v1/score/features", "/score"])
def test_the_example_of_each_route_scores_as_it_is(service, description, route):
    body = description["paths"][route]["post"]["requestBody"]["content"]["application/json"]
    answer = service.post(route, json=body["example"])
    assert len(probabilities(answer)) == 1


@pytest.mark.parametrize("route", ["/v1/score", "/v1/score/features", "/score", "/v1/feedback", "/v1/approve"])
def test_what_is_made_from_the_description_is_answered_as_it_says(service, description, route):
    """Right and wrong requests: no 5xx, and no answer of a status or form that is not described."""
    base = f"http://127.0.0.1:{service.base_url.port}"
    operation = schemathesis.openapi.from_dict(description)[route]["POST"]
    requests = st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests)
    def asks(request):
        answer = request.call(base_url=base, timeout=60)
        request.validate_response(answer, checks=AS_DESCRIBED)

    asks()


def test_the_description_names_the_contract_s_fields(description, card_model):
    schemas = description["components"]["schemas"]
    asked = schemas["TransactionsRequest"]["properties"]["transactions"]["items"]["anyOf"]
    assert asked == [{"$ref": "#/components/schemas/Transaction"}, {"$ref": "#/components/schemas/SourceTransaction"}]
    assert list(schemas["Transaction"]["properties"]) == [
        "transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount", "channel", "age_days", "expires",
        "present",
    ]  # fmt: skip
    assert schemas["Transaction"]["required"] == ["transaction_id", "event_timestamp", "customer_id", "amount"]
    assert set(schemas["SourceTransaction"]["properties"]) == {
        "id", "time", "customer", "terminal", "amount", "channel", "age", "expires", "present",
    }  # fmt: skip
    assert tuple(schemas["Features"]["required"]) == card_model[1].features
    assert schemas["Features"]["properties"]["channel"]["type"] == ["string", "null"]


def test_every_reference_of_the_description_leads_somewhere(description):
    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        if isinstance(value, list):
            for one in value:
                yield from references(one)

    found = set(references(description))
    assert found
    assert {one.rpartition("/")[2] for one in found} <= set(description["components"]["schemas"])


def test_an_example_is_sent_and_scored_from_the_page_with_a_click(service):
    require_browser()
    with open_browser() as driver:
        shown = try_a_request(driver, f"{service.base_url}/", "/v1/score")
    assert '"transaction_id": -1' in shown
    answer = shown.partition("Server response")[2]
    assert '"probability": 0.' in answer
    assert '"feature_time": "2024-07-01T00:00:00Z"' in answer


# --- What is said of a mistake ------------------------------------------------------------------------------


FIELDS = ("transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount", "channel", "age_days", "expires",
          "present")  # fmt: skip
SECRETS = ("secret-4711", 471147114711.4711, ["secret-4711"], {"secret-4711": 1}, "4711.4711.4711")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("own", [False, True], ids=["platform", "source"])
@pytest.mark.parametrize("value", SECRETS)
def test_a_refusal_names_the_field_and_repeats_no_value(service, field, own, value):
    row = {
        "transaction_id": 1, "event_timestamp": "2024-06-20T12:00:00Z", "customer_id": 1, "terminal_id": "T1",
        "amount": 12.5, "channel": "chip", "age_days": 3, "expires": "2027-01-31", "present": True,
    }  # fmt: skip
    changed = row | {field: value}
    answer = service.post("/v1/score", json={"transactions": [own_names(changed) if own else changed]})
    (called,) = own_names({field: None}) if own else (field,)
    if answer.status_code != 200:
        # Of a time that is a number, the contract says what is wrong with all rows.
        assert f"transactions.0.{called}" in places(answer) or field in answer.json()["error"]
        assert "4711" not in answer.text
    assert "4711" not in service.log()


# --- Who may ask for what -----------------------------------------------------------------------------------
# From here on the service has keys, and needs one for each request.

OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/", "/docs.json", "/static_content/swagger-ui.css")
SCORING_ROUTES = ("/score", "/v1/score", "/v1/score/features")
ANSWERS = {"/v1/approve": "approved", "/v1/reject": "rejected"}


def test_without_keys_requests_to_another_name_than_this_machine_s_are_refused(service, description):
    """From behind a proxy, or from a page that gave this machine a name of its own."""
    for host in ("scores.example.org", "192.168.1.7:5000", "localhost.example.org"):
        answer = service.post("/v1/score", json={}, headers={"host": host})
        assert answer.status_code == 403
        assert "answers its own machine alone" in answer.json()["error"]
        assert service.get("/readyz", headers={"host": host}).status_code == 200
    for host in ("localhost", "127.0.0.1:5000", "[::1]:5000"):
        assert service.get("/v1/model", headers={"host": host}).status_code == 200


@pytest.fixture(scope="module")
def from_elsewhere(service):
    """A client whose requests come from another address than this machine's own, whatever name they are sent to."""
    addresses = [one.address for found in psutil.net_if_addrs().values() for one in found if one.family == AF_INET]
    outside = [one for one in addresses if not is_loopback(one)]
    if not outside:
        pytest.skip("THIS MACHINE HAS NO ADDRESS BUT ITS OWN: nothing was asked from elsewhere")
    address = f"http://{outside[0]}:{service.base_url.port}"
    with httpx.Client(base_url=address, headers={"host": "localhost"}, timeout=60, trust_env=False) as client:
        yield client


def test_without_keys_requests_from_elsewhere_are_refused_though_it_listens_everywhere(service, from_elsewhere):
    for route in (*SCORING_ROUTES, "/v1/feedback", *ANSWERS):
        answer = from_elsewhere.post(route, json={})
        assert answer.status_code == 403
        assert "answers its own machine alone; `fraud keys add` makes one" in answer.json()["error"]
    assert from_elsewhere.get("/v1/model").status_code == 403
    assert from_elsewhere.get("/metrics").status_code == 403
    assert from_elsewhere.get("/readyz").status_code == 200


def test_a_request_cannot_say_itself_that_it_comes_from_here(service, from_elsewhere):
    for header in ("x-forwarded-for", "x-real-ip", "forwarded"):
        answer = from_elsewhere.get("/v1/model", headers={header: "127.0.0.1"})
        assert answer.status_code == 403


@pytest.mark.parametrize("route", [*ANSWERS, "/v1/answers/1"])
def test_without_keys_nobody_answers_about_a_model(service, description, route):
    answer = service.post(route, json={"version": 2, "reason": "seen"}) if route in ANSWERS else service.get(route)
    assert answer.status_code == 403
    assert "needs an API key with role admin" in answer.json()["error"]


def add_key(file, name, *roles, rate=None):
    """A new key's text."""
    made = []

    def add(there):
        text, changed = make_key(there, name, roles, datetime.now(UTC), rate)
        made.append(text)
        return changed

    change_keys(file, add)
    return made[0]


def bearing(key):
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keys(service, key_file):
    """A key of each role, by name; they were added while the service ran."""
    made = {role: add_key(key_file, f"the-{role}", role) for role in ("score", "decide", "feedback", "admin")}
    made["both"] = add_key(key_file, "both", "score", "feedback")
    within(10, lambda: service.get("/v1/model").status_code == 401)
    return made


@pytest.fixture
def example(service, keys, description):
    paths = description["paths"]
    return {
        route: paths[route]["post"]["requestBody"]["content"]["application/json"]["example"] for route in SCORING_ROUTES
    }


def test_with_a_key_requests_from_elsewhere_are_answered(service, keys, from_elsewhere):
    assert from_elsewhere.get("/v1/model").status_code == 401
    assert from_elsewhere.get("/v1/model", headers=bearing(keys["score"])).status_code == 200


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_health_and_the_page_need_no_key(service, keys, path):
    assert service.get(path).status_code == 200


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong-4711", "Basic wrong-4711", "wrong-4711"])
@pytest.mark.parametrize(
    "path",
    [
        *SCORING_ROUTES,
        *ANSWERS,
        "/v1/feedback",
        "/v1/answers/1",
        "/v1/model",
        "/metrics",
        "/schema.json",
        "/no-such-path",
    ],
)
def test_everything_else_needs_one(service, keys, path, given):
    headers = {} if given is None else {"authorization": given}
    posted = path in (*SCORING_ROUTES, *ANSWERS, "/v1/feedback")
    answer = service.post(path, json={}, headers=headers) if posted else service.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "4711" not in answer.text
    assert "4711" not in service.log()


def test_a_key_is_asked_for_before_the_body_is_read(service, keys):
    answer = service.post("/v1/score", content=b"x" * 1000, headers={"content-type": "text/plain"})
    assert answer.status_code == 401


@pytest.mark.parametrize("route", SCORING_ROUTES)
@pytest.mark.parametrize(
    ("role", "status"), [("score", 200), ("both", 200), ("decide", 200), ("feedback", 403), ("admin", 403)]
)
def test_scores_are_for_the_roles_that_get_them(service, keys, example, route, role, status):
    body = example[route] | {"explain": False}
    answer = service.post(route, json=body, headers=bearing(keys[role]))
    assert answer.status_code == status, answer.text
    if status == 403:
        assert "needs a key with role score or decide" in answer.json()["error"]


def test_a_key_for_decisions_gets_nothing_that_they_were_made_of(service, keys, example):
    for route in SCORING_ROUTES:
        body = example[route] | {"explain": False}
        whole = service.post(route, json=body, headers=bearing(keys["score"])).json()
        part = service.post(route, json=body, headers=bearing(keys["decide"])).json()
        assert "probability" in whole["results"][0]
        assert set(whole) - set(part) == {"threshold"}
        assert set(whole["results"][0]) - set(part["results"][0]) == {"probability", "decided_by"}
        assert part["results"][0]["decision"] == whole["results"][0]["decision"]
        refused = service.post(route, json=body | {"explain": True}, headers=bearing(keys["decide"]))
        assert refused.status_code == 403
        assert "decisions alone" in refused.json()["error"]
    assert service.get("/v1/model", headers=bearing(keys["decide"])).json()["threshold"] is None
    assert service.get("/v1/model", headers=bearing(keys["score"])).json()["threshold"] == 0.3


def test_in_a_thread_too(service, keys, card_features, card_model):
    rows = feature_rows(card_features.slice(0, 300), card_model[1])
    answer = service.post("/v1/score/features", json={"features": rows}, headers=bearing(keys["decide"]))
    assert answer.status_code == 200
    assert not any("probability" in one for one in answer.json()["results"])


def test_a_key_is_changed_without_a_restart_and_without_a_gap(service, keys, key_file):
    old = add_key(key_file, "till", "score")
    within(10, lambda: service.get("/v1/model", headers=bearing(old)).status_code == 200)
    new = add_key(key_file, "till-2", "score")
    within(10, lambda: service.get("/v1/model", headers=bearing(new)).status_code == 200)
    assert service.get("/v1/model", headers=bearing(old)).status_code == 200
    change_keys(key_file, lambda there: without_key(there, "till"))
    within(2, lambda: service.get("/v1/model", headers=bearing(old)).status_code == 401)
    assert service.get("/v1/model", headers=bearing(new)).status_code == 200


def test_more_than_a_key_may_send_is_refused_until_it_may_again(service, keys, key_file):
    key = add_key(key_file, "slow", "score", rate=60)
    within(10, lambda: service.get("/v1/model", headers=bearing(key)).status_code == 200)
    answers = [service.get("/v1/model", headers=bearing(key)) for _ in range(12)]
    refused = [one for one in answers if one.status_code == 429]
    assert 1 <= len(refused) <= 3
    assert "'slow' may send 60 requests a minute" in refused[0].json()["error"]
    time.sleep(int(refused[-1].headers["retry-after"]))
    assert service.get("/v1/model", headers=bearing(key)).status_code == 200
    assert service.get("/v1/model", headers=bearing(keys["score"])).status_code == 200


@pytest.mark.parametrize("broken", ["gone", "no JSON", "no keys"])
def test_a_file_of_keys_that_goes_wrong_lets_nobody_in(service, keys, key_file, broken):
    kept = key_file.read_text()
    try:
        if broken == "gone":
            key_file.unlink()
        else:
            key_file.write_text({"no JSON": "secret-4711", "no keys": '{"keys": []}'}[broken])
        time.sleep(1)
        assert service.get("/v1/model").status_code == 401
        # What the file has lost by accident is still valid; what was taken out of it is not.
        status = service.get("/v1/model", headers=bearing(keys["score"])).status_code
        assert status == (401 if broken == "no keys" else 200)
        assert "4711" not in service.log()
    finally:
        key_file.write_text(kept)
    within(10, lambda: service.get("/v1/model", headers=bearing(keys["score"])).status_code == 200)


def test_no_key_is_in_the_log(service, keys):
    assert "API keys: the-score, the-decide" in service.log()
    assert not [one for one in keys.values() if one in service.log() or hash_key(one) in service.log()]


# --- Feedback -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(database_url):
    return Database(database_url)


@pytest.fixture
def tell(service, keys):
    """Sends labels: (transaction, verdict) or (transaction, verdict, source)."""

    def send(*labels, role="feedback"):
        body = {
            "labels": [dict(zip(("transaction_id", "is_fraud", "label_source"), one, strict=False)) for one in labels]
        }
        return service.post("/v1/feedback", json=body, headers=bearing(keys[role]))

    return send


def added(database, *identifiers):
    """What was added about transactions, in order."""
    return database.rows(
        "added_labels",
        "SELECT transaction_id, is_fraud, label_source, file, label_timestamp FROM added_labels "
        "WHERE transaction_id = ANY(%s) ORDER BY number",
        [[str(one) for one in identifiers]],
    )


def test_labels_are_known_from_now_on_and_are_what_the_month_is_made_of(tell, database, cards):
    contract, before = cards[0], datetime.now(UTC)
    answer = tell((1001, True, "chargeback"), (1002, False, "analyst"), (1003, "withdrawn"))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    known = datetime.fromisoformat(told["known_at"])
    assert before - timedelta(seconds=1) <= known <= datetime.now(UTC) + timedelta(seconds=1)
    assert (told["taken"], told["repeated"], told["month"]) == (3, 0, contract.month_of(known))
    assert added(database, 1001, 1002, 1003) == [
        ("1001", True, "chargeback", "feedback of the-feedback", known),
        ("1002", False, "analyst", "feedback of the-feedback", known),
        ("1003", None, "chargeback", "feedback of the-feedback", known),
    ]
    statements, _ = added_statements(database, contract, told["month"])
    of_month = {row["transaction_id"]: row for row in statements.to_pylist()}
    assert (of_month[1001]["is_fraud"], of_month[1001]["origin"]) == (True, "feedback of the-feedback row 1")
    assert of_month[1003]["is_fraud"] is None


def test_a_label_that_is_sent_again_is_stored_once_and_another_verdict_is_new(tell, database):
    said = [(tell((1010, verdict)).json()["taken"]) for verdict in (True, True, "withdrawn", "withdrawn", True, False)]
    assert said == [1, 0, 1, 0, 1, 1]
    assert [row[1] for row in added(database, 1010)] == [True, None, True, False]
    times = [row[4] for row in added(database, 1010)]
    assert times == sorted(times)


def test_a_label_that_many_send_at_once_is_stored_once(tell, database):
    with ThreadPoolExecutor(8) as several:
        answers = list(several.map(lambda _: tell((1020, True)).json(), range(16)))
    assert sum(one["taken"] for one in answers) == 1
    assert len(added(database, 1020)) == 1


def test_a_label_of_a_file_that_was_added_is_not_stored_again(tell, database, cards):
    rows = pa.table({"transaction_id": ["1030"], "is_fraud": ["true"]})
    read = read_statements(rows, layouts(cards[0])[0], cards[0], file="chargebacks.csv", now=datetime.now(UTC))
    assert record_added(database, read.taken).num_rows == 1
    assert tell((1030, True)).json() | {"known_at": "", "month": ""} == {
        "taken": 0, "repeated": 1, "known_at": "", "month": "",
    }  # fmt: skip
    assert tell((1030, False)).json()["taken"] == 1
    assert record_added(database, read.taken.set_column(1, "is_fraud", pa.array([False]))).num_rows == 0


@pytest.mark.parametrize(
    ("label", "place"),
    [
        ({"transaction_id": 1}, "labels.0.is_fraud"),
        ({"is_fraud": True}, "labels.0.transaction_id"),
        ({"transaction_id": "secret-4711", "is_fraud": True}, "labels.0.transaction_id"),
        ({"transaction_id": 10**30, "is_fraud": True}, "labels.0.transaction_id"),
        ({"transaction_id": "", "is_fraud": True}, "labels.0.transaction_id"),
        ({"transaction_id": True, "is_fraud": True}, "labels.0.transaction_id.constrained-int"),
        ({"transaction_id": 1, "is_fraud": "secret-4711"}, "labels.0.is_fraud"),
        ({"transaction_id": 1, "is_fraud": 1}, "labels.0.is_fraud"),
        ({"transaction_id": 1, "is_fraud": True, "label_source": "secret-4711"}, "labels.0.label_source"),
        ({"transaction_id": 1, "is_fraud": True, "label_timestamp": "2024-01-01"}, "labels.0.label_timestamp"),
    ],
)
def test_a_label_that_cannot_be_used_is_refused_by_field(service, keys, database, label, place):
    body = {"labels": [label, {"transaction_id": 1040, "is_fraud": True}]}
    answer = service.post("/v1/feedback", json=body, headers=bearing(keys["feedback"]))
    assert any(one.startswith(place.removesuffix(".constrained-int")) for one in places(answer)), answer.text
    assert "4711" not in answer.text
    assert "4711" not in service.log()
    # Whole, or not at all.
    assert added(database, 1040) == []


def test_of_a_transaction_one_thing_is_said_at_a_time(tell, database):
    answer = tell((1050, True), (1051, True), (1050, False))
    assert places(answer) == {"labels.2.transaction_id"}
    assert added(database, 1050, 1051) == []


def test_nothing_is_known_of_a_transaction_that_has_not_happened(tell, database):
    ahead = datetime.now(UTC) + timedelta(days=1)
    with database.session() as connection:
        connection.execute(
            "INSERT INTO raw_transactions (transaction_id, event_timestamp, customer_id) VALUES (1060, %s, 1)", [ahead]
        )
    answer = tell((1061, True), (1060, True))
    assert places(answer) == {"labels.1.transaction_id"}
    assert "lies in the future" in answer.json()["detail"][0]["msg"]
    assert added(database, 1060, 1061) == []


@pytest.mark.parametrize(("role", "status"), [("feedback", 200), ("both", 200), ("score", 403), ("admin", 403)])
def test_labels_are_for_their_role(tell, role, status):
    assert tell((1070, True), role=role).status_code == status


def test_labels_outlive_a_cut_connection_and_are_refused_while_there_is_no_database(tell, postgres, database):
    assert tell((1080, True)).status_code == 200
    with closed_database(postgres):
        answer = tell((1081, True))
        assert answer.status_code == 503
        assert "send it again" in answer.json()["error"]
    assert tell((1081, True)).json()["taken"] == 1
    assert len(added(database, 1081)) == 1


def test_the_description_s_label_is_taken_as_it_is(service, keys, description):
    body = description["paths"]["/v1/feedback"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert service.post("/v1/feedback", json=body, headers=bearing(keys["feedback"])).status_code == 200


# --- Answers about models -----------------------------------------------------------------------------------


@pytest.fixture
def waiting(database):
    """A version that waits for a person, of its own for each test."""
    with database.session() as connection:
        (version,) = connection.execute("SELECT 100 + count(*) FROM approval_requests").fetchone()
        now = datetime.now(UTC)
        ask(connection, version, 5, "2024-07", [], evidence="e", now=now, until=now + timedelta(days=1))
    return version


@pytest.fixture
def say(service, keys):
    def send(route, version, reason="seen with the fraud team", role="admin"):
        return service.post(route, json={"version": version, "reason": reason}, headers=bearing(keys[role]))

    return send


@pytest.mark.parametrize("route", ANSWERS)
def test_an_answer_is_written_down_to_be_carried_out_and_can_be_asked_after(
    service, keys, say, database, waiting, route
):
    asked = say(route, waiting)
    assert asked.status_code == 202, asked.text
    told = asked.json()
    assert (told["model_version"], told["answer"], told["state"]) == (waiting, ANSWERS[route], "waiting")
    assert (told["actor"], told["reason"]) == ("API key the-admin", "seen with the fraud team")
    [there] = [one for one in open_answers(database) if one.model_version == waiting]
    assert (there.number, there.answer, there.actor) == (told["number"], ANSWERS[route], "API key the-admin")
    assert say(route, waiting).json()["number"] == told["number"]
    assert service.get(told["see"], headers=bearing(keys["admin"])).json() == told
    refuse_answer(database, told["number"], "version 7 is live now")
    after = service.get(told["see"], headers=bearing(keys["admin"])).json()
    assert (after["state"], after["said"]) == ("refused", "version 7 is live now")
    assert service.get("/v1/model", headers=bearing(keys["admin"])).json()["model_version"] == 5


def test_what_does_not_wait_or_is_answered_otherwise_already_is_a_conflict(say, database, waiting):
    nobody = say("/v1/approve", 99)
    assert nobody.status_code == 409
    assert "version 99 does not wait for an approval" in nobody.json()["error"]
    assert f"version {waiting}" in nobody.json()["error"]
    number = say("/v1/approve", waiting).json()["number"]
    other = say("/v1/reject", waiting)
    assert other.status_code == 409
    assert (
        other.json()["error"] == f"version {waiting} is being approved already: answer {number}, of API key the-admin"
    )
    with database.session() as connection:
        connection.execute("UPDATE approval_requests SET expires_at = now() WHERE model_version = %s", [waiting])
    refuse_answer(database, number, "late")
    assert say("/v1/approve", waiting).status_code == 409


@pytest.mark.parametrize("role", ["score", "decide", "feedback", "both"])
def test_answers_are_for_role_admin(service, keys, say, waiting, role):
    for route in ANSWERS:
        assert say(route, waiting, role=role).status_code == 403
    assert service.get("/v1/answers/1", headers=bearing(keys[role])).status_code == 403


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"version": 2}, "reason"),
        ({"version": 2, "reason": ""}, "reason"),
        ({"version": "2", "reason": "seen"}, "version"),
        ({"version": 0, "reason": "seen"}, "version"),
        ({"version": 2**80, "reason": "seen"}, "version"),
        ({"version": 2, "reason": "a\u0000b"}, "reason"),
        ({"version": 2, "reason": "seen", "by": "somebody else"}, "by"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_by_field(service, keys, body, place):
    assert places(service.post("/v1/approve", json=body, headers=bearing(keys["admin"]))) == {place}


@pytest.mark.parametrize(("number", "status"), [("999999", 404), (str(10**30), 404), ("x", 404), ("-1", 404)])
def test_an_answer_that_is_not_there_is_not_found(service, keys, number, status):
    assert service.get(f"/v1/answers/{number}", headers=bearing(keys["admin"])).status_code == status


# --- Anything at all ----------------------------------------------------------------------------------------


def changed(draw, value):
    """A body with something else somewhere in it, or with more or less in it."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        return value | {key: changed(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [changed(draw, value[0]), *value[1:]]
    if isinstance(value, dict):
        kind = draw(st.sampled_from(["instead", "more", "less"]))
        if kind == "more":
            return value | draw(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=2))
        if kind == "less" and value:
            return {name: one for name, one in value.items() if name != draw(st.sampled_from(sorted(value)))}
    return draw(VALUES)


@pytest.mark.parametrize("route", [*SCORING_ROUTES, "/v1/feedback", *ANSWERS])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40, deadline=None
)
@given(st.data())
def test_no_value_of_json_is_an_error_of_any_route(service, keys, description, route, data):
    body = description["paths"][route]["post"]["requestBody"]["content"]["application/json"]["example"]
    content = json.dumps(changed(data.draw, body)).encode()
    role = "both" if route in SCORING_ROUTES or route == "/v1/feedback" else "admin"
    headers = bearing(keys[role]) | {"content-type": "application/json"}
    answer = service.post(route, content=content, headers=headers)
    assert answer.status_code in (200, 202, 400, 409), answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]
