"""Pass-through: only what would be held, up to an amount, as often as was said, and always the same again."""

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.models.pass_through import LARGEST_WEIGHT, PassThrough, PassThroughError, learning_weights

SEED = b"0123456789abcdef"


def test_only_what_would_be_held_and_has_no_larger_amount_can_be_let_through():
    rule = PassThrough(0.05, 50.0, SEED)
    held = np.array([True, True, True, True, False])
    amounts = np.array([50.0, 50.01, np.nan, 0.0, 10.0])
    assert rule.probabilities(held, amounts).tolist() == [0.05, 0.0, 0.0, 0.05, 0.0]
    assert rule.probabilities(held, None).tolist() == [0.05, 0.05, 0.05, 0.05, 0.0]


def test_nothing_is_let_through_where_nothing_was_said():
    chance = PassThrough().probabilities(np.ones(3, dtype=bool), None)
    assert chance.tolist() == [0.0, 0.0, 0.0]
    assert not PassThrough().lets_through([1, 2, 3], chance).any()


def test_the_share_that_is_let_through_is_the_share_that_was_said():
    chance = np.full(20_000, 0.05)
    through = PassThrough(0.05, None, SEED).lets_through(range(20_000), chance)
    # Four standard errors of 1000 of 20,000.
    assert abs(int(through.sum()) - 1000) < 4 * np.sqrt(20_000 * 0.05 * 0.95)


def test_the_same_transaction_is_always_treated_alike_and_a_larger_share_lets_more_through_never_others():
    ids = [f"T{number}" for number in range(5000)]
    few, more = (PassThrough(share, None, SEED).lets_through(ids, np.full(5000, share)) for share in (0.02, 0.1))
    again = PassThrough(0.02, None, SEED).lets_through(ids[::-1], np.full(5000, 0.02))[::-1]
    assert few.tolist() == again.tolist()
    assert not (few & ~more).any()
    assert few.sum() < more.sum()
    # A number and the same as text are one id, as they are in the table.
    numbers, texts = (
        PassThrough(0.1, None, SEED).lets_through(x, np.full(99, 0.1)) for x in (range(99), [str(n) for n in range(99)])
    )
    assert numbers.tolist() == texts.tolist()


def test_another_seed_chooses_others():
    chance = np.full(5000, 0.1)
    one, other = (PassThrough(0.1, None, seed).lets_through(range(5000), chance) for seed in (SEED, SEED[::-1]))
    assert 0 < (one & other).sum() < one.sum()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"share": 0.11, "seed": SEED}, "it is 0 to 0.1"),
        ({"share": -0.01, "seed": SEED}, "it is 0 to 0.1"),
        ({"share": float("nan"), "seed": SEED}, "it is 0 to 0.1"),
        ({"share": 0.01, "seed": b"short"}, "the secret seed has 5 bytes: it takes 16 or more"),
        ({"share": 0.01, "seed": SEED, "most": -1.0}, "it is 0 or more"),
        ({"share": 0.01, "seed": SEED, "most": float("nan")}, "it is 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(given, said):
    with pytest.raises(PassThroughError, match=said):
        PassThrough(**given)


def test_the_seed_is_not_told():
    assert "0123" not in repr(PassThrough(0.01, 5.0, SEED))


# What a model learns from rows that were let through


def weights(rows):
    """Weights of rows: the label's source, whether it was let through and with which chance (None: was not held)."""
    labels = pa.table(
        {
            "transaction_id": pa.array(range(len(rows)), pa.int64()),
            "label_source": [source for source, _ in rows],
            "is_matured": [source is not None for source, _ in rows],
        }
    )
    held = [(place, *drawn) for place, (_, drawn) in enumerate(rows) if drawn]
    drawn = pa.table(
        {
            "transaction_id": pa.array([place for place, *_ in held], pa.int64()),
            "passed_through": pa.array([through for _, through, _ in held], pa.bool_()),
            "pass_through_probability": pa.array([chance for *_, chance in held], pa.float64()),
        }
    )
    found = learning_weights(labels, drawn)
    return None if found is None else found.tolist()


SILENT, SAID = "auto_matured", "analyst"


def test_without_a_row_that_could_be_let_through_all_count_alike():
    assert weights([(SILENT, None), (SAID, None)]) is None


def test_what_nobody_judged_is_left_out_and_what_was_let_through_stands_for_it():
    held = [(SILENT, (False, 0.1))] * 9
    assert weights([*held, (SILENT, (True, 0.1)), (SAID, None)]) == [0.0] * 9 + [10.0, 1.0]


def test_what_somebody_judged_is_there_itself_and_nothing_stands_for_it():
    assert weights([(SAID, (False, 0.1)), ("chargeback", (True, 0.1)), (SILENT, None)]) == [1.0, 1.0, 1.0]


def test_of_what_was_judged_in_part_it_stands_for_the_rest():
    # Of four that were held, one was judged: 1 + 3/4 of 9 others.
    rows = [(SAID, (False, 0.1)), *[(SILENT, (False, 0.1))] * 3, (SAID, (True, 0.1))]
    assert weights(rows) == [1.0, 0.0, 0.0, 0.0, 7.75]


def test_no_row_stands_for_more_than_the_limit_and_what_has_not_matured_decides_nothing():
    rows = [(SILENT, (False, 0.001)), (SAID, (True, 0.001)), (None, (False, 0.001))]
    assert weights(rows) == [0.0, LARGEST_WEIGHT, 1.0]


def test_the_weighted_share_of_frauds_is_that_of_all_rows_on_average():
    """What Horvitz and Thompson promise: over many draws, no bias, where silence hides every fraud that was held."""
    generator = np.random.default_rng(3)
    fraud = generator.random(400) < 0.4
    found = []
    for _ in range(400):
        through = generator.random(400) < 0.1
        rows = [(SILENT, (bool(one), 0.1)) for one in through]
        weight = np.array(weights(rows))
        found.append((weight * fraud).sum())
    assert np.mean(found) == pytest.approx(fraud.sum(), abs=4 * np.std(found) / np.sqrt(len(found)))
