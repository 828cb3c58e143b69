"""What the service refuses before it parses or begins it: the shape of bodies, and waiting for a turn."""

import asyncio
import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.fraud_scorer import limits
from bentos.fraud_scorer.limits import MAX_CONTAINERS, MAX_DEPTH, MAX_ITEMS, RequestLimits, find_excess
from bentos.fraud_scorer.waiting import rounds, turns
from bentos.fraud_scorer.waiting.rounds import Rounds
from bentos.fraud_scorer.waiting.turns import BusyError, LateError, Turns, check_time

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{},:"\\\n\u00e9ab'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[{"\\,', max_size=4), inner, max_size=4)
    ),
    max_leaves=40,
)


def depth(value):
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def containers(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + sum(map(containers, inner))


def commas(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else max(0, len(inner) - 1) + sum(map(commas, inner))


@given(JSON_VALUES, st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(1, 7))
def test_depth_and_number_are_those_of_the_parsed_value_whatever_its_texts_hold(value, deepest, most, lists, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MAX_DEPTH", deepest)
        patch.setattr(limits, "MAX_ITEMS", most)
        patch.setattr(limits, "MAX_CONTAINERS", lists)
        patch.setattr(limits, "CHUNK_BYTES", chunk)
        said = find_excess(json.dumps(value, ensure_ascii=False).encode())
    assert (said is not None) == (depth(value) > deepest or commas(value) > most or containers(value) > lists)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 30_000_000, "nested deeper than 8 levels"),
        (b'{"features": [{"a": [' + b"[]," * 9_000_000 + b"0]}]}", "more than 20,000 lists"),
        (b'{"features": [{"a": [' + b"0," * 15_000_000 + b"0]}]}", "more than 1,500,000 values"),
        (b'{"a":' * 6_000_000, "nested deeper"),
        (b'{"a": "' + b"[" * 30_000_000 + b'"}', None),
        (b'{"a": "' + b'\\"[' * 10_000_000 + b'"}', None),
        (json.dumps({"features": [dict.fromkeys((f"f{i}" for i in range(100)), 0.5)] * 10_000}).encode(), None),
    ],
    ids=["deep", "lists", "values", "objects", "text", "escaped-text", "largest-request"],
)
def test_the_largest_bodies(body, said):
    found = find_excess(body)
    assert found is None if said is None else said in found


def asked(app, chunks, *, headers=(("content-type", "application/json"),), patience=5):
    """Status and body of one POST to an ASGI app, whose body comes in these chunks, and then nothing."""
    waiting, sent = list(chunks), []

    async def receive():
        if not waiting:
            await asyncio.sleep(patience)
            return {"type": "http.disconnect"}
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting) or body == b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": []}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers]
    return asyncio.wait_for(app(scope, receive, send), 10), sent


async def answered(scope, receive, send):
    """An app that reads the body and answers 200 with its length."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(message["body"])).encode()})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("content-type", "application/json; charset=utf-8")], 200),
        ([("content-type", "application/json"), ("content-encoding", "identity")], 200),
        ([("content-type", "application/json"), ("content-encoding", "gzip")], 415),
        ([("content-type", "application/json"), ("content-encoding", "gzip, br")], 415),
        ([("content-type", "application/vnd.bentoml+pickle")], 415),
        ([("content-type", "text/json")], 415),
        ([], 415),
        ([("content-type", "application/json"), ("content-length", str(limits.MAX_BODY_BYTES + 1))], 413),
        ([("content-type", "application/json"), ("content-length", "-1")], 413),
        ([("content-type", "application/json"), ("content-length", "9" * 5000)], 413),
        ([("content-type", "application/json"), ("content-length", "\u00b2")], 413),
    ],
)
def test_a_body_is_plain_json_of_limited_length_or_is_not_read(headers, status):
    read, sent = asked(RequestLimits(answered, Rounds()), [b"{}"], headers=headers)
    asyncio.run(read)
    assert sent[0]["status"] == status


def test_a_body_that_stays_away_is_given_up(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    read, sent = asked(RequestLimits(answered, Rounds()), [b"{", b""])
    asyncio.run(read)
    assert sent[0]["status"] == 408


def test_bodies_of_all_requests_together_are_limited_and_room_comes_back(monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES_AT_ONCE", 100)
    release = asyncio.Event()

    async def slow(scope, receive, send):
        await release.wait()
        await answered(scope, receive, send)

    async def three():
        app = RequestLimits(slow, Rounds())
        first, first_sent = asked(app, [b"1" * 60])
        going = asyncio.ensure_future(first)
        await asyncio.sleep(0.01)
        second, second_sent = asked(app, [b"2" * 60])
        await second
        release.set()
        await going
        third, third_sent = asked(app, [b"3" * 60])
        await third
        return [sent[0]["status"] for sent in (first_sent, second_sent, third_sent)]

    assert asyncio.run(three()) == [200, 429, 200]


# --- Turns --------------------------------------------------------------------------------------------------


def test_one_computes_at_a_time_and_a_cancelled_request_that_waits_is_never_begun():
    """BentoML cancels requests that it times out; what runs then goes on, and must keep its place."""
    line, release, running, most, begun = Turns(), threading.Event(), 0, 0, []

    def work(name):
        def compute(until):
            nonlocal running, most
            running += 1
            most = max(most, running)
            begun.append(name)
            release.wait(10)
            running -= 1
            return name

        return compute

    async def story():
        requests = [asyncio.ensure_future(line.take(1, work(name))) for name in range(4)]
        await asyncio.sleep(0.05)
        requests[0].cancel()
        requests[2].cancel()
        await asyncio.sleep(0.05)
        release.set()
        return await asyncio.gather(*requests, return_exceptions=True)

    answers = asyncio.run(story())
    line.close()
    assert [answers[1], answers[3]] == [1, 3]
    assert [type(answers[place]) for place in (0, 2)] == [asyncio.CancelledError] * 2
    assert begun == [0, 1, 3]
    assert most == 1


def test_what_would_be_answered_too_late_is_refused_at_once_and_again_taken_later():
    line, release = Turns(), threading.Event()
    rows = int(turns.MAX_WAIT_SECONDS / turns.FIRST_PACE)

    async def story():
        first = asyncio.ensure_future(line.take(rows, lambda until: release.wait(10)))
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError, match="1 requests wait already") as refused:
            await line.take(1, lambda until: pytest.fail("was begun"))
        release.set()
        await first
        return refused.value.retry_after, await line.take(1, lambda until: "answer")

    assert asyncio.run(story()) == (1, "answer")
    line.close()


def test_one_request_of_any_size_is_begun_when_nobody_waits():
    line = Turns()
    assert asyncio.run(line.take(10**9, lambda until: "answer")) == "answer"
    line.close()


def test_whose_turn_comes_too_late_is_not_begun(monkeypatch):
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(turns, "FIRST_PACE", 0.0)
    line, release = Turns(), threading.Event()

    async def story():
        first = asyncio.ensure_future(line.take(1, lambda until: release.wait(10)))
        second = asyncio.ensure_future(line.take(1, lambda until: pytest.fail("was begun")))
        await asyncio.sleep(0.15)
        release.set()
        await first
        with pytest.raises(LateError, match="not begun"):
            await second

    asyncio.run(story())
    line.close()


def test_work_is_told_until_when_it_may_compute(monkeypatch):
    monkeypatch.setattr(turns, "MAX_SECONDS", 0.0)
    line = Turns()
    with pytest.raises(LateError, match="was given up"):
        asyncio.run(line.take(1, lambda until: (time.sleep(0.01), check_time(until))))
    line.close()


def test_the_limits_are_those_of_the_documentation():
    assert (MAX_DEPTH, MAX_ITEMS, MAX_CONTAINERS, limits.MAX_BODY_BYTES) == (8, 1_500_000, 20_000, 32 * 1024**2)
    assert (rounds.MOST_AT_ONCE, rounds.IN_A_ROUND, rounds.FEW_AT_ONCE) == (256, rounds.REQUEST, 16)


# --- Rounds -------------------------------------------------------------------------------------------------


HEALTH = ("/healthz", "/livez", "/readyz", "/metrics")


class Rounded:
    """An app behind its limits, asked by many at once; which requests were answered in which round of the loop."""

    def __init__(self):
        self.app = RequestLimits(answered, Rounds())
        self.round = 0
        self.answers = []

    def count(self):
        self.round += 1
        asyncio.get_running_loop().call_soon(self.count)

    async def ask(self, name, path="/score", method="POST", body=b"{}"):
        kept = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            kept.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
        self.answers.append((name, kept[0]["status"], self.round))
        return kept[0]

    async def all_of(self, *requests):
        self.count()
        return await asyncio.gather(*requests)


@given(
    st.lists(st.sampled_from(["POST", "GET", "PUT"]), max_size=400),
    st.integers(1, 300),
)
@settings(max_examples=40, deadline=None)
def test_no_round_is_long_and_all_are_answered_in_their_order_whatever_comes_at_once(kinds, most):
    rounded = Rounded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "MOST_AT_ONCE", most)
        requests = [rounded.ask(place, "/docs.json", method) for place, method in enumerate(kinds)]
        asyncio.run(rounded.all_of(*requests))
    assert sorted(place for place, _, _ in rounded.answers) == list(range(len(kinds)))
    by_round = {}
    for _, status, number in rounded.answers:
        by_round.setdefault(number, []).append(rounds.REFUSAL if status in (429, 405) else rounds.REQUEST)
    for spent in by_round.values():
        # Places of two rounds may meet in one, and a request may come after a refusal. Of few at once all may begin.
        assert sum(spent) <= 2 * (rounds.REQUEST + rounds.FEW_AT_ONCE * rounds.REQUEST - 1)
    begun = len(kinds) - kinds.count("PUT")
    statuses = [status for _, status, _ in rounded.answers]
    assert statuses.count(429) <= max(0, begun - most)
    assert set(statuses) <= {200, 405, 429}
    taken = [place for place, status, _ in rounded.answers if status == 200]
    assert taken == sorted(taken)


def test_whoever_asks_after_the_service_s_health_waits_for_nobody():
    rounded = Rounded()
    many = [rounded.ask(place) for place in range(2_000)]
    asyncio.run(rounded.all_of(*many, *(rounded.ask(path, path, "GET") for path in HEALTH)))
    said = {name: (status, number) for name, status, number in rounded.answers}
    assert [said[path][0] for path in HEALTH] == [200] * 4
    assert max(said[path][1] for path in HEALTH) < 3
    statuses = [status for name, status, _ in rounded.answers if isinstance(name, int)]
    assert set(statuses) == {200, 429}
    assert rounds.MOST_AT_ONCE <= statuses.count(200) <= rounds.MOST_AT_ONCE + rounds.FEW_AT_ONCE
    assert rounded.answers[-1][2] > 20


def test_what_is_refused_for_its_number_may_be_sent_again_over_the_same_connection():
    rounded = Rounded()
    answers = asyncio.run(rounded.all_of(*map(rounded.ask, range(rounds.MOST_AT_ONCE + 2 * rounds.FEW_AT_ONCE))))
    refused, *_ = [dict(one["headers"]) for one in answers if one["status"] == 429]
    assert refused[b"retry-after"] == b"1"
    assert b"connection" not in refused


def test_of_many_one_begins_in_each_round_and_few_begin_at_once():
    async def begin(n):
        """How many begin in each round, while nobody is through."""
        places, counts, begun = Rounds(), [], []

        async def one():
            await places.begin()
            begun.append(None)

        tasks = [asyncio.ensure_future(one()) for _ in range(n)]
        while len(begun) < n:
            before = len(begun)
            await asyncio.sleep(0)
            counts.append(len(begun) - before)
        await asyncio.gather(*tasks)
        return [count for count in counts if count]

    assert asyncio.run(begin(rounds.FEW_AT_ONCE)) == [rounds.FEW_AT_ONCE]
    many = asyncio.run(begin(rounds.MOST_AT_ONCE))
    assert many[0] == rounds.FEW_AT_ONCE
    assert set(many[1:]) == {1}


def test_whoever_goes_while_it_waits_leaves_its_place_to_others():
    async def story():
        places = Rounds()
        waiting = [asyncio.ensure_future(places.begin()) for _ in range(rounds.MOST_AT_ONCE)]
        await asyncio.sleep(0)
        for one in waiting[20:]:
            one.cancel()
        gone = await asyncio.gather(*waiting[20:], return_exceptions=True)
        assert {type(one) for one in gone} == {asyncio.CancelledError}
        await asyncio.gather(*waiting[:20])
        for _ in range(20):
            places.end()
        # As many as ever.
        await asyncio.gather(*(places.begin() for _ in range(rounds.MOST_AT_ONCE)))
        with pytest.raises(rounds.FullError):
            await places.begin()

    asyncio.run(story())


def test_a_caller_who_goes_before_the_body_is_whole_is_no_error_of_the_service():
    read, sent = asked(RequestLimits(answered, Rounds()), [b"{", b""], patience=0)
    asyncio.run(read)
    assert sent[0]["status"] == 400
