"""Reasons: which features, in what order, adding up to what."""

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.explanations.reason_codes import ReasonWriter
from fraud_assets.core.models.encoding import Encoder, EncodingConfig, learn_texts
from fraud_assets.core.models.scoring import Scorer, digest_model, model_matrix
from fraud_assets_tests.core.models.test_scoring import MODEL
from fraud_assets_tests.core.models.test_scoring import manifest as old_manifest

CONTRACT = """
name: kauf
first_month: 2024-01
event_timestamp: {column: zeit}
amount: {column: betrag, type: number, unit: EUR}
attributes:
  kanal: {column: Kanal, type: string, nullable: true}
  alter: {column: Alter, type: number, nullable: true, feature: true}
label: {column: betrug, delay_days: 7}
maturity_days: 7
"""
NUMBERS = ("hour", "is_weekend", "amount", "alter")


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(7)
    n = 3000
    columns = {name: generator.lognormal(2, 1, n).astype(np.float32) for name in NUMBERS}
    age = [None if generator.random() < 0.2 else float(one) for one in columns["alter"]]
    columns["alter"] = pa.array(age, pa.float32())
    columns["kanal"] = pa.array([("netz", "laden", None)[one] for one in generator.integers(0, 3, n)], pa.string())
    return pa.table(columns)


@pytest.fixture(scope="module")
def scorer(table):
    netz = np.array([value == "netz" for value in table["kanal"].to_pylist()])
    y = (table["amount"].to_numpy() > 12) & netz
    at = np.arange(len(y))
    learned = learn_texts(
        table.select(["kanal"]), y=y, times=at, known=at, fit=np.ones(len(y), bool), config=EncodingConfig()
    )
    encoder = Encoder(NUMBERS, learned.texts)
    X = model_matrix(table, encoder)
    onnx = to_onnx(HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(X, y), X.shape[1])
    return Scorer(onnx, old_manifest(
        features=encoder.inputs, encoder=encoder, contract_yaml=CONTRACT, model_digest=digest_model(onnx),
        family="hist_gradient_boosting",
    ))  # fmt: skip


def test_base_reasons_and_others_add_up_to_the_raw_score(table, scorer):
    scores = scorer.score(table)
    for most in (1, 3, 100):
        for told, score in zip(ReasonWriter(scorer).of_table(table, scores, most), scores, strict=True):
            total = told.base + sum(one.attribution for one in told.reasons) + told.others
            assert total == pytest.approx(told.raw_score, abs=1e-9)
            assert 1 / (1 + math.exp(-told.raw_score)) == pytest.approx(score, abs=1e-6)
            assert len(told.reasons) <= min(most, len(scorer.manifest.features))


def test_the_strongest_reason_comes_first_and_a_text_is_one_reason(table, scorer):
    row = table.to_pylist()[0] | {"kanal": "netz", "amount": 90.0, "alter": None}
    (told,) = ReasonWriter(scorer).of_rows([row], scorer.score_rows([row]), 5)
    strengths = [abs(one.attribution) for one in told.reasons]
    assert strengths == sorted(strengths, reverse=True)
    assert {one.text for one in told.reasons[:2]} == {"the amount is 90 EUR", "kanal is netz"}
    assert all(one.attribution > 0 for one in told.reasons[:2])
    names = [one.feature for one in told.reasons]
    assert len(names) == len(set(names))
    assert set(names) <= set(scorer.manifest.features)


def test_rows_and_tables_have_the_same_reasons(table, scorer):
    some = table.slice(0, 50)
    scores, writer = scorer.score(some), ReasonWriter(scorer)
    rows = [row | {"alter": math.nan if row["alter"] is None else row["alter"]} for row in some.to_pylist()]
    assert writer.of_rows(rows, scores) == writer.of_table(some, scores)


def test_a_model_from_before_they_were_kept_says_that_it_has_none():
    writer = ReasonWriter(Scorer(MODEL, old_manifest()))
    assert not writer.is_able
    assert writer.why_not is not None
    assert writer.why_not.startswith("example version 7 has no explanations: it was trained before they were kept")
    with pytest.raises(ValueError, match="example version 7 has no explanations"):
        writer.of_rows([{"a": 1.0, "b": 2.0}], np.array([0.5]))
