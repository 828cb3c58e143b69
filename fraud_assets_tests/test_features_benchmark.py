"""The features' benchmark compares what it says it compares."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.features import one_transaction, pandas_features
from benchmarks.handbook import load_cards, published_features
from fraud_assets.core.contracts.contract import Contract


def test_pandas_makes_the_published_features(handbook: Path, handbook_contract: Contract) -> None:
    cards = load_cards(handbook, handbook_contract)
    some = np.flatnonzero((cards.card < 40) & (cards.day < cards.day.min() + 45))
    few = type(cards)(
        cards.transactions.take(some), cards.statements, cards.day[some], cards.card[some], cards.fraud[some]
    )
    theirs, ours = pandas_features(few), published_features(few)
    assert theirs.shape == ours.shape == (len(some), 15)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)
    assert few.fraud.any()
    assert min(one_transaction(few, handbook_contract)) > 0
