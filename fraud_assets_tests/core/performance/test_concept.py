"""Concept drift: a champion beside its own promise, in worlds where it is known what changed."""

import datetime as dt
import re

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.evaluation.segments import Segment
from fraud_assets.core.performance import concept
from fraud_assets.core.performance.concept import MINIMUM_FRAUDS, concept_findings
from fraud_assets.core.statistics.metrics import Costs

TIME = pa.timestamp("us", "UTC")
PROMISED, REALISED = dt.datetime(2025, 3, 3, tzinfo=dt.UTC), dt.datetime(2025, 5, 5, tzinfo=dt.UTC)
N, CUSTOMERS, TERMINALS, DAYS = 30_000, 3000, 1500, 28


def rows(seed, start, fraud=lambda score, terminal: score, n=N):
    """Transactions whose scores mean what they say, unless `fraud` gives them another probability."""
    draws = np.random.default_rng(seed)
    score = np.where(draws.random(n) < 0.02, draws.uniform(0.2, 0.9, n), draws.uniform(0, 0.004, n))
    terminal = draws.integers(0, TERMINALS, n)
    y = draws.random(n) < fraud(score, terminal)
    moment = [start + dt.timedelta(days=DAYS * place / n) for place in range(n)]
    return pa.table(
        {
            "event_timestamp": pa.array(moment, TIME),
            "customer_id": draws.integers(0, CUSTOMERS, n),
            "terminal_id": terminal,
            "amount": np.full(n, 50.0),
            "is_fraud": y,
            "score": score,
        }
    )


def hot(score, terminal):
    """A third of the transactions of 2 % of the terminals are fraud, whatever their score."""
    return np.where(terminal < 0.02 * TERMINALS, 1 / 3, score)


def doubled(score, terminal):
    return np.minimum(2 * score, 0.98)


PROMISE = rows(1, PROMISED)


def found(realised, promise=PROMISE, **more):
    given = {"clusters": ["customer_id", "terminal_id"], "card": "customer_id", "costs": Costs(), "threshold": 0.2}
    return {one.feature: one for one in concept_findings(promise, realised, **(given | more)) if one.segment is None}


def test_a_champion_that_does_as_promised_is_ok():
    assert {one.status for one in found(rows(2, REALISED)).values()} == {"OK"}


def test_frauds_at_a_few_terminals_with_normal_scores_are_a_new_pattern():
    findings = found(rows(2, REALISED, hot))
    for feature in ("average_precision", "calibration"):
        assert (findings[feature].status, findings[feature].cause) == ("DRIFT", "fraud_pattern")
    assert "frauds are where the champion expects none" in findings["calibration"].reason
    carriers = r"(29|30) ids in terminal_id have 3 or more of the frauds that are not flagged, "
    carriers += r"\d+\.\d % of them, 0\.0 % before"
    assert re.search(carriers, findings["calibration"].reason)


def test_more_fraud_by_the_labels_does_not_explain_a_ranking_that_fell_by_more_than_a_fifth():
    ranking = found(rows(2, REALISED, hot), more=1.6)["average_precision"]
    assert ranking.value_current < 0.8 * ranking.value_reference
    assert ranking.cause == "fraud_pattern"


def test_a_ranking_that_fell_a_little_while_there_is_more_of_all_fraud_is_more_of_the_same(monkeypatch):
    monkeypatch.setattr(concept, "LEAST_KEPT", 0.0)
    findings = found(rows(2, REALISED, hot), more=1.6)
    assert findings["average_precision"].cause == findings["calibration"].cause == "fraud_rate"
    # Without more fraud by the labels it is not.
    assert found(rows(2, REALISED, hot))["calibration"].cause == "fraud_pattern"


def test_frauds_that_are_elsewhere_but_no_more_are_a_new_pattern_whatever_the_labels_say(monkeypatch):
    """Half of the frauds at high scores have gone, and as many have come to a few terminals."""
    monkeypatch.setattr(concept, "LEAST_KEPT", 0.0)

    def moved(score, terminal):
        return np.where(terminal < 0.02 * TERMINALS, 0.3, np.where(score > 0.1, score / 2, score))

    calibration = found(rows(2, REALISED, moved), more=1.6)["calibration"]
    assert calibration.value_current == pytest.approx(1, abs=0.08)
    assert (calibration.status, calibration.cause) == ("DRIFT", "fraud_pattern")
    monkeypatch.setattr(concept, "LEAST_MORE", 0.9)
    assert found(rows(2, REALISED, moved), more=1.6)["calibration"].cause == "fraud_rate"


def test_a_new_pattern_is_seen_from_the_day_on_which_it_begins():
    """The pattern begins with the second half of the window."""
    calm, changed = rows(2, REALISED), rows(2, REALISED, hot)
    later = pa.concat_tables([calm.slice(0, N // 2), changed.slice(N // 2)])
    since = found(later)["calibration"].since
    assert abs((since - dt.date(2025, 5, 19)).days) <= 1


def test_the_same_frauds_at_twice_the_rate_are_no_new_pattern():
    findings = found(rows(2, REALISED, doubled))
    assert (findings["calibration"].status, findings["calibration"].cause) == ("DRIFT", "fraud_rate")
    assert findings["calibration"].value_current == pytest.approx(1.7, abs=0.2)
    assert findings["average_precision"].status == "OK"


def test_a_champion_that_does_better_than_promised_is_ok():
    worse = rows(1, PROMISED, lambda score, terminal: np.where(score > 0.1, score / 2, 0.008))
    assert found(rows(2, REALISED), worse)["average_precision"].status == "OK"


def test_frauds_that_come_together_at_one_terminal_are_chance_and_so_less_sure():
    """As many frauds more, at one terminal or each at another."""
    calm = rows(2, REALISED)
    normal = np.flatnonzero(calm["score"].to_numpy() < 0.01)[: 30 * 40 : 40]
    y = calm["is_fraud"].to_numpy().copy()
    y[normal] = True
    spread = calm.set_column(4, "is_fraud", pa.array(y))
    terminal = calm["terminal_id"].to_numpy().copy()
    terminal[normal] = 7
    together = spread.set_column(2, "terminal_id", pa.array(terminal))
    assert found(spread)["calibration"].p_value < found(together)["calibration"].p_value


@pytest.mark.parametrize("few", ["promise", "realised"])
def test_too_few_frauds_on_either_side_tell_nothing(few):
    some = rows(3, REALISED, n=1000)
    assert 0 < sum(some["is_fraud"].to_pylist()) < MINIMUM_FRAUDS
    findings = found(some) if few == "realised" else found(rows(2, REALISED), some)
    assert {one.status for one in findings.values()} == {"INSUFFICIENT_DATA"}
    assert set(findings) == {"average_precision", "calibration", "cost"}


def test_nothing_that_matured_tells_nothing():
    assert {one.status for one in found(PROMISE.slice(0, 0)).values()} == {"INSUFFICIENT_DATA"}


def test_cost_is_that_of_reviews_and_missed_frauds_in_a_thousand_transactions():
    """40 of 2,000 rows are flagged, at 5 each; 40 frauds of 50 are missed: (200 + 2,000) / 2."""
    n = 2000
    y, score = np.zeros(n, bool), np.zeros(n)
    y[:40], score[1000:1040] = True, 0.9
    table = pa.table(
        {
            "event_timestamp": pa.array([REALISED + dt.timedelta(minutes=20 * row) for row in range(n)], TIME),
            "customer_id": np.arange(n),
            "terminal_id": np.arange(n),
            "amount": np.full(n, 50.0),
            "is_fraud": y,
            "score": score,
        }
    )
    cost = found(table, table, costs=Costs(review=5, loss_share=1, fixed_loss=0), threshold=0.5)["cost"]
    assert (cost.value_reference, cost.value_current) == (1100.0, 1100.0)
    assert cost.status == "OK"


def test_without_entities_each_transaction_is_a_unit_of_chance():
    assert found(rows(2, REALISED, hot), clusters=[], card=None)["average_precision"].status == "DRIFT"


def test_the_order_of_rows_changes_nothing():
    realised = rows(2, REALISED, hot)
    order = np.random.default_rng(0).permutation(N)
    assert found(realised.take(order), PROMISE.take(order)) == found(realised)


def test_the_part_in_which_the_frauds_are_is_named_and_is_worth_a_look():
    realised = rows(2, REALISED, lambda score, terminal: np.where(terminal % 2 == 0, np.maximum(score, 0.03), score))
    halves = Segment("half", ("even", "odd"), realised["terminal_id"].to_numpy() % 2, (None, None))
    given = concept_findings(
        PROMISE, realised, clusters=["terminal_id"], card=None, costs=Costs(), threshold=0.2, segments=[halves]
    )
    parts = {one.segment: one for one in given if one.segment}
    assert parts["half=even"].status == "WATCH"
    assert parts["half=even"].value_current > parts["half=even"].value_reference


@pytest.mark.parametrize(
    ("which", "said"),
    [(0, "below 0.0031"), (1, "of 0.0031 to 1"), (2, "of 0.995 to 0.997"), (3, "from 0.997")],
)
def test_a_bin_of_scores_is_told_with_the_digits_that_tell_its_ends_apart(which, said):
    assert concept._span(np.array([0.00312, 0.9951, 0.9968]), which) == f"at scores {said}"
