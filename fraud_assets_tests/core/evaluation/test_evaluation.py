"""Evaluation: every model on the same rows, and what the promotion decision is shown of it."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.contracts.contract import Column, load_contract
from fraud_assets.core.decisions.evidence import promotion_signals
from fraud_assets.core.decisions.promotion import ModelEvidence, judge_evidence
from fraud_assets.core.evaluation import evaluation as judging
from fraud_assets.core.evaluation.evaluation import (
    EvaluationError,
    KnownRows,
    evaluation_rows,
    nothing_judged,
    score_window,
    segment_rows,
    window_segments,
)
from fraud_assets.core.evaluation.segments import ENDS, Segment, segments_in_words
from fraud_assets.core.lineage.tables import evaluation as tables
from fraud_assets.core.models.scoring import ModelManifest, Scorer, digest_model
from fraud_assets.core.statistics.bootstrap import Interval
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.core.windows import Window
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets_tests.sentences import texts

UTC = dt.UTC
WINDOW = Window(dt.datetime(2018, 6, 1, tzinfo=UTC), dt.datetime(2018, 6, 24, tzinfo=UTC))
AS_OF = dt.datetime(2018, 7, 1, tzinfo=dt.UTC)


CARDS = load_contract(PROJECT_ROOT / "contracts" / "handbook.yaml")


@pytest.fixture(scope="module")
def schema(handbook_contract):
    return tables.evaluation(handbook_contract).schema


def scorer(slope, version, threshold=0.5, feature="a"):
    """Probability = 1 / (1 + exp(-slope * feature))."""
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[float(slope)]]), np.array([0.0])
    onnx = to_onnx(model, 1)
    return Scorer(
        onnx,
        ModelManifest(
            model_name="m", model_version=version, trained_month=f"2018-0{version}", as_of="2018-06-01T00:00:00+00:00",
            features=(feature,), threshold=threshold, family="logistic_regression", contract_yaml="",
            model_digest=digest_model(onnx),
        ),
    )  # fmt: skip


def rows(*given):
    """Rows of (day of June, customer, amount, a, is fraud, is matured)."""
    day, customer, amount, a, fraud, matured = (list(column) for column in zip(*given, strict=True))
    moment = [dt.datetime(2018, 6, 1, 12, tzinfo=UTC) + dt.timedelta(days=d - 1) for d in day]
    features = pa.table(
        {
            "event_timestamp": pa.array(moment, pa.timestamp("us", "UTC")),
            "customer_id": pa.array(customer, pa.int64()),
            "terminal_id": pa.array([None] * len(day), pa.int64()),
            "amount": pa.array(amount, pa.float32()),
            "a": pa.array(a, pa.float32()),
        }
    )
    return features, pa.table({"is_fraud": pa.array(fraud, pa.bool_()), "is_matured": pa.array(matured)})


FOUR = [
    (1, 1, 30.0, 0.9, True, True),
    (2, 2, 50.0, 0.8, False, True),
    (3, 3, 10.0, 0.7, True, True),
    (4, 4, 5.0, 0.1, False, True),
]


def evaluation(given, models, schema, window=WINDOW, contract=CARDS):
    features, labels = rows(*given)
    scored = score_window(features, labels, models, window, contract)
    found = evaluation_rows(scored, models, month="2018-06", as_of=AS_OF, window=window, schema=schema)
    if not {"champion", "challenger"} <= models.keys():
        return found
    reviews = judging.Reviewed(100, Costs())
    pair = judging.compare(scored, scored, [], models, "challenger", since=window.start, reviews=reviews)
    return judging.with_pairs(found, [pair])


def signals_of(table, champion, **more):
    """The signals of a sound month, whose rows these are."""
    trained = [{"model_version": version, "inputs_digest": f"digest {version}"} for version in range(1, 10)]
    drift = pa.table({"kind": ["verdict"], "drift_status": ["OK"], "blame": pa.array([None], pa.string())})
    parts = tables.evaluation_segments(CARDS).schema.empty_table()
    return promotion_signals(
        table, parts, "2018-06", champion, **({"contract": CARDS, "drift": drift, "trained": trained} | more)
    )


def judged(given, models, schema, window=WINDOW):
    table = evaluation(given, models, schema, window)
    assert table.schema == schema
    return {row["role"]: row for row in table.to_pylist()}


def test_a_model_is_judged_as_worked_out_by_hand(schema):
    """AP is (1/1 + 2/3) / 2, three of four pairs are in order; of 40 in frauds, 30 score at or above sigmoid(0.85)."""
    row = judged(FOUR, {"champion": scorer(1, 3, threshold=1 / (1 + np.exp(-0.85)))}, schema)["champion"]
    assert row["average_precision"] == pytest.approx(5 / 6)
    assert row["roc_auc"] == pytest.approx(0.75)
    assert row["value_detection_rate"] == pytest.approx(0.75)
    assert (row["n"], row["n_fraud"], row["prevalence"]) == (4, 2, 0.5)
    # One fraud among the day's first hundred cards, on two of four days.
    assert row["card_precision_at_100"] == pytest.approx(0.005)
    scores = 1 / (1 + np.exp(-np.array([0.9, 0.8, 0.7, 0.1])))
    assert row["expected_over_observed"] == pytest.approx(scores.sum() / 2)
    assert row["brier"] == pytest.approx(np.mean((scores - [1, 0, 1, 0]) ** 2))


def test_a_row_says_who_was_judged_on_what(schema):
    row = judged(FOUR, {"champion": scorer(1, 3)}, schema)["champion"]
    assert row["month"] == dt.date(2018, 6, 1)
    assert (row["model_version"], row["trained_month"], row["family"]) == (3, "2018-03", "logistic_regression")
    assert (row["window_from"], row["window_to"]) == (WINDOW.start, WINDOW.end)
    assert row["as_of"] == dt.datetime(2018, 7, 1, tzinfo=UTC)


def test_rows_outside_the_window_or_not_matured_change_nothing(schema):
    models = {"champion": scorer(1, 3), "challenger": scorer(-1, 4)}
    others = [
        (0, 9, 1e6, 5.0, False, True),
        (24, 9, 1e6, 5.0, True, True),
        (2, 9, 1e6, 5.0, True, False),
        (2, 9, 1e6, 5.0, None, False),
    ]
    assert judged([*others, *FOUR], models, schema) == judged(FOUR, models, schema)


def test_the_window_holds_its_first_instant_and_not_its_last(schema):
    exact = Window(dt.datetime(2018, 6, 1, 12, tzinfo=UTC), dt.datetime(2018, 6, 4, 12, tzinfo=UTC))
    assert judged(FOUR, {"champion": scorer(1, 3)}, schema, exact)["champion"]["n"] == 3


def test_all_models_are_judged_on_the_same_rows_and_the_challengers_row_has_the_difference(schema):
    """The other way round AP is (1/2 + 2/4) / 2, so the challenger is 1/2 - 5/6 better."""
    models = {"champion": scorer(1, 3), "challenger": scorer(-1, 4), "reference": scorer(2, 4)}
    found = judged(FOUR, models, schema)
    assert set(found) == {"champion", "challenger", "reference"}
    assert {(row["n"], row["n_fraud"], row["window_from"], row["window_to"]) for row in found.values()} == {
        (4, 2, WINDOW.start, WINDOW.end)
    }
    assert found["challenger"]["ap_difference"] == pytest.approx(1 / 2 - 5 / 6)
    assert found["champion"]["ap_difference"] is None
    assert found["reference"]["ap_difference"] is None


def test_models_of_different_features_are_judged_beside_each_other(schema):
    found = judged(FOUR, {"champion": scorer(1, 3), "challenger": scorer(1, 4, feature="amount")}, schema)
    # By amount: 50 genuine, 30 fraud, 10 fraud, 5 genuine.
    assert found["challenger"]["average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_source_without_entities_and_amount_is_judged_without_them(schema):
    bare = CARDS.model_copy(update={"entities": {}, "amount": None})
    table = evaluation(FOUR, {"champion": scorer(1, 3), "challenger": scorer(-1, 4)}, schema, contract=bare)
    assert table["value_detection_rate"].to_pylist() == [None, None]
    assert table["average_precision"].to_pylist() == pytest.approx([5 / 6, 1 / 2])


@pytest.mark.parametrize(
    ("fraud", "counts"), [([False] * 4, "4 matured transactions, 0"), ([True] * 4, "4 matured transactions, 4")]
)
def test_a_window_of_one_class_is_refused_with_its_counts(schema, fraud, counts):
    given = [(*row[:4], is_fraud, True) for row, is_fraud in zip(FOUR, fraud, strict=True)]
    with pytest.raises(EvaluationError, match=f"2018-06-01 to 2018-06-24 has {counts} of them fraud"):
        judged(given, {"champion": scorer(1, 3)}, schema)


def test_a_window_without_rows_is_refused(schema):
    with pytest.raises(EvaluationError, match="0 matured transactions"):
        judged(FOUR, {"champion": scorer(1, 3)}, schema, Window(WINDOW.end, WINDOW.start))


# Cards, days and costs


def scored(features, labels, **changes):
    return score_window(features, labels, {"champion": scorer(1, 3)}, WINDOW, CARDS.model_copy(update=changes))


@pytest.mark.parametrize(
    ("entities", "reviewed", "next_one"),
    [
        (("terminal_id", "customer_id"), "customer_id", "terminal_id"),
        (("ip_address", "email_address", "device"), "ip_address", "email_address"),
        (("terminal_id",), "terminal_id", None),
        ((), None, None),
    ],
)
def test_what_is_reviewed_is_the_customer_or_the_first_entity_or_the_transaction(entities, reviewed, next_one):
    features, labels = rows(*FOUR)
    features = features.select(["event_timestamp", "amount", "a"])
    # Only the one that is reviewed is the same in the first row and the last, only the next one in the first two.
    for name in entities:
        values = {reviewed: [5, 1, None, 5], next_one: [5, 5, None, 1]}.get(name, [1, 2, None, 3])
        features = features.append_column(name, pa.array(values, pa.int64()))
    found = scored(features, labels, entities=dict.fromkeys(entities, Column(column="x")))
    assert (None if found.cards is None else found.cards.tolist()) == (reviewed and [0, 1, -1, 0])
    assert (None if found.terminals is None else found.terminals.tolist()) == (next_one and [0, 0, -1, 1])


def test_days_are_those_of_the_contract_s_time_zone():
    features, labels = rows(*FOUR)
    assert scored(features, labels).days.tolist() == [17683, 17684, 17685, 17686]
    # Noon in UTC is after midnight on the other side of the world.
    assert scored(features, labels, timezone="Pacific/Auckland").days.tolist() == [17684, 17685, 17686, 17687]


def test_costs_are_those_that_are_given(schema):
    features, labels = rows(*FOUR)
    models = {"champion": scorer(1, 3, threshold=1 / (1 + np.exp(-0.75)))}
    found = evaluation_rows(
        score_window(features, labels, models, WINDOW, CARDS), models, month="2018-06", as_of=AS_OF, window=WINDOW,
        schema=schema, costs=Costs(review=7, loss_share=0.5),
    )  # fmt: skip
    # Over four days, two cards are reviewed at 7 and half of 10 is lost.
    assert found["expected_cost"].to_pylist() == [(2 * 7 + 5) / 4]
    assert found["alerts_per_day"].to_pylist() == [0.5]


# Parts of the window


def segments_of_a_window(given, contract, history, raw=None):
    features, labels = rows(*given)
    features = features.append_column("transaction_id", pa.array(range(len(given)), pa.int64()))
    return window_segments(scored(features, labels), WINDOW, contract, history=history(features), raw=raw)


def test_an_entity_is_known_from_a_transaction_before_the_window_and_not_from_one_in_it(handbook_contract):
    given = [(0, 1, 1.0, 0.1, False, True), (-20, 2, 1.0, 0.1, False, True), *FOUR]
    found = segments_of_a_window(given, handbook_contract, lambda features: [features.slice(1, 1), features])
    [customers] = [one for one in found if one.name == "customer_id"]
    # Of the customers 1 to 4 in the window, 1 came the day before and 2 three weeks before.
    assert [customers.values[code] for code in customers.codes] == ["known", "known", "new", "new"]


def test_without_rows_from_before_the_window_no_entity_is_called_new(handbook_contract):
    found = segments_of_a_window(FOUR, handbook_contract, lambda features: [features.slice(0, 0), features])
    assert "customer_id" not in {one.name for one in found}


def test_attributes_are_found_by_transaction_in_any_order(handbook_contract):
    raw = pa.table({"transaction_id": [3, 2, 0, 7], "channel": ["web", "shop", "web", "phone"]})
    found = segments_of_a_window(FOUR, handbook_contract, lambda _: [], raw)
    [channels] = [one for one in found if one.name == "channel"]
    assert [channels.values[code] for code in channels.codes] == ["web", "(missing)", "shop", "web"]


def test_champion_and_challenger_are_judged_on_the_parts_and_the_reference_is_not(handbook_contract):
    features, labels = rows(*many(600))
    models = {"champion": scorer(1, 3), "challenger": scorer(-1, 4), "reference": scorer(1, 4)}
    window = score_window(features, labels, models, WINDOW, CARDS)
    half = Segment("half", ("a", "b"), np.repeat([0, 1], 300), (None, "1.00 to 2.00"))
    schema = tables.evaluation_segments(handbook_contract).schema
    table = segment_rows(window, models, [half], month="2018-06", schema=schema)
    assert [(row["role"], row["model_version"], row["value"]) for row in table.to_pylist()] == [
        ("champion", 3, "a"), ("champion", 3, "b"), ("challenger", 4, "a"), ("challenger", 4, "b"),
    ]  # fmt: skip
    assert sum(table["n"].to_pylist()) == 2 * 600
    header, _, worst, *_, best = segments_in_words(table).splitlines()
    assert header.startswith("| model | segment | value | average precision")
    assert worst.startswith("| challenger v4 | half | ")
    assert best.startswith("| champion v3 | half | ")
    assert "b (1.00 to 2.00)" in segments_in_words(table)


def test_parts_with_too_few_frauds_come_last_with_the_reason(handbook_contract):
    features, labels = rows(*many(600))
    window = scored(features, labels)
    few = Segment("few", ("x|y", "z"), (np.arange(600) >= 10).astype(np.int64), (None, None))
    schema = tables.evaluation_segments(handbook_contract).schema
    table = segment_rows(window, {"champion": scorer(1, 3)}, [few], month="2018-06", schema=schema)
    last = segments_in_words(table).splitlines()[-1]
    assert "frauds, fewer than 30" in last
    assert "x\\|y" in last


def test_no_parts_are_said_to_be_none(handbook_contract):
    assert segments_in_words(tables.evaluation_segments(handbook_contract).schema.empty_table()) == (
        "*no model was judged*"
    )


# What the decision is shown


def many(n=400, seed=5):
    """Frauds have higher a, and every row is a customer of its own."""
    generator = np.random.default_rng(seed)
    fraud = generator.random(n) < 0.3
    a = generator.normal(size=n) + 2 * fraud
    return [(1 + i % 20, i, 30.0, float(a[i]), bool(fraud[i]), True) for i in range(n)]


def test_signals_hold_the_evidence_of_both_models_and_their_paired_difference(schema):
    table = evaluation(many(), {"champion": scorer(-1, 3), "challenger": scorer(1, 4)}, schema)
    signals = signals_of(table, champion=3)
    row = next(row for row in table.to_pylist() if row["role"] == "challenger")
    assert (signals.challenger_version, signals.champion_version) == (4, 3)
    assert signals.challenger == ModelEvidence(
        4, "2018-04", row["n"], row["n_fraud"], row["prevalence"], row["average_precision"],
        row["average_precision_low"], row["average_precision_high"], 0.5, row["alerts_per_day"], row["cards_per_day"],
        row["expected_cost"], row["cost_without_review"],
        Interval(*(row[f"expected_over_observed{end}"] for end in ENDS)),
    )  # fmt: skip
    assert signals.pair.cost.low < signals.pair.cost.value < signals.pair.cost.high < 0
    assert (signals.pair.n, signals.pair.n_fraud, signals.pair.look) == (row["n"], row["n_fraud"], 1)
    assert (signals.matured, signals.drift_status, signals.training_digest) == (True, "OK", "digest 4")
    assert judge_evidence(signals).promote


def test_signals_of_a_first_challenger_have_no_champion_and_no_difference(schema):
    table = evaluation(many(), {"challenger": scorer(1, 4), "reference": scorer(1, 4)}, schema)
    signals = signals_of(table, champion=None)
    assert (signals.champion_version, signals.champion, signals.pair) == (None, None, None)
    assert judge_evidence(signals).promote


def test_signals_of_a_month_without_a_challenger_promote_nothing(schema):
    table = evaluation(many(), {"champion": scorer(1, 3)}, schema)
    signals = signals_of(table, champion=3)
    assert (signals.challenger_version, signals.challenger) == (None, None)
    assert not judge_evidence(signals).promote


def test_signals_of_a_month_that_could_not_be_judged_promote_nothing_and_carry_the_reason_on(schema):
    row = nothing_judged("2018-06", AS_OF, "12 matured transactions, 0 of them fraud", schema)
    signals = signals_of(row, champion=3)
    assert texts(judge_evidence(signals).reasons) == (
        "There is no challenger in 2018-06: 12 matured transactions, 0 of them fraud.",
    )
    told = signals_of(row, champion=3, why_none="no model has been trained")
    assert told.why_none == "no model has been trained"


def test_signals_of_a_month_without_rows_promote_nothing(schema):
    signals = signals_of(schema.empty_table(), champion=3)
    assert (signals.champion_version, signals.champion) == (3, None)
    assert not judge_evidence(signals).promote


def test_an_unknown_interval_is_no_difference(schema):
    """Both frauds are one customer's: how much the difference would vary between customers cannot be told."""
    given = [(day, 1 if fraud else 9 + day, amount, a, fraud, matured) for day, _, amount, a, fraud, matured in FOUR]
    table = evaluation(given, {"champion": scorer(1, 3), "challenger": scorer(-1, 4)}, schema)
    signals = signals_of(table, champion=3)
    assert signals.pair.ap is not None
    assert not signals.pair.ap.is_known
    assert not judge_evidence(signals).promote


def test_evidence_about_another_champion_than_the_live_one_is_refused(schema):
    table = evaluation(many(), {"champion": scorer(-1, 3), "challenger": scorer(1, 4)}, schema)
    [reason] = judge_evidence(signals_of(table, champion=2)).reasons
    assert reason.rule == "other_model"


def test_what_nobody_stored_is_unknown_and_promotes_nothing(schema):
    """The champion goes by amounts, which hold half of what the challenger sees, and more."""
    generator = np.random.default_rng(6)
    given = [(day, one, 45 + 10 * (a + 2 * generator.normal()), a, *known) for day, one, _, a, *known in many()]
    champion = scorer(0.1, 3, threshold=1 / (1 + np.exp(-6)), feature="amount")
    table = evaluation(given, {"champion": champion, "challenger": scorer(1, 4)}, schema)
    assert judge_evidence(signals_of(table, champion=3)).promote
    rules = {
        "no drift report": signals_of(table, champion=3, drift=None),
        "no training": signals_of(table, champion=3, trained=()),
        "labels that have not matured": signals_of(
            table, champion=3, contract=CARDS.model_copy(update={"maturity_days": 8})
        ),
        "parts that are missing": signals_of(
            pa.Table.from_pylist([row | {"parts_judged": 1} for row in table.to_pylist()], schema=schema), champion=3
        ),
        "rows from before costs were compared": signals_of(
            pa.Table.from_pylist([row | {"look": None} for row in table.to_pylist()], schema=schema), champion=3
        ),
    }
    assert {told: [str(one.rule) for one in judge_evidence(signals).reasons] for told, signals in rules.items()} == {
        "no drift report": ["drift_unknown"],
        "no training": ["training_unknown"],
        "labels that have not matured": ["labels_not_matured"],
        "parts that are missing": ["parts_unknown"],
        "rows from before costs were compared": ["difference_unknown"],
    }


def stored(month_frauds):
    """A reader of features and statements: of each month a fraud on the 10th, as often as said, and a genuine one."""
    asked = []

    def read(table, first, last):
        asked.append((table, first, last))
        rows = [
            (f"{month} {number}", dt.datetime.fromisoformat(f"{month}-10T00:00:00+00:00"), number > 0)
            for month, n in month_frauds.items()
            if first <= month <= last
            for number in range(n + 1)
        ]
        ids, moments, frauds = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
        time = pa.timestamp("us", "UTC")
        if table == "transaction_features":
            return pa.table({"transaction_id": pa.array(ids, pa.string()), "event_timestamp": pa.array(moments, time)})
        return pa.table(
            {
                "transaction_id": pa.array(ids, pa.string()),
                "is_fraud": pa.array(frauds, pa.bool_()),
                "label_timestamp": pa.array(moments, time),
                "label_source": pa.array(["analyst"] * len(ids), pa.string()),
            }
        ).filter(pa.array(frauds, pa.bool_()))

    return read, asked


def test_rows_are_read_back_to_where_a_window_begins_each_month_once():
    read, asked = stored({"2018-04": 3, "2018-05": 2, "2018-06": 1, "2018-07": 9})
    known = KnownRows(read, CARDS, "2018-06")
    assert known.parts == []
    assert len(known.frauds(Window(dt.datetime(2018, 5, 25, tzinfo=UTC), dt.datetime(2018, 6, 24, tzinfo=UTC)))) == 1
    assert len(known.frauds(Window(dt.datetime(2018, 4, 25, tzinfo=UTC), dt.datetime(2018, 6, 24, tzinfo=UTC)))) == 3
    assert len(known.frauds(Window(dt.datetime(2018, 5, 1, tzinfo=UTC), dt.datetime(2018, 6, 24, tzinfo=UTC)))) == 3
    tables = ("transaction_features", "fraud_labels")
    assert asked == [
        *((table, "2018-05", "2018-06") for table in tables),
        *((table, "2018-04", "2018-04") for table in tables),
    ]
    assert (known.first, len(known.parts)) == ("2018-04", 4)
    assert known.features["event_timestamp"].to_pylist() == sorted(known.features["event_timestamp"].to_pylist())
    assert known.labels["transaction_id"] == known.features["transaction_id"]


def test_a_fraud_that_has_not_matured_is_not_counted():
    """The month's end is 1 July; with 7 days of maturity, what happened after 24 June is open."""
    known = KnownRows(stored({"2018-06": 4})[0], CARDS, "2018-06")
    everything = Window(dt.datetime(2018, 6, 1, tzinfo=UTC), dt.datetime(2018, 7, 1, tzinfo=UTC))
    assert len(known.frauds(everything)) == 4
    assert (
        KnownRows(stored({"2018-06": 4})[0], CARDS.model_copy(update={"maturity_days": 25}), "2018-06").frauds(
            everything
        )
        == []
    )
