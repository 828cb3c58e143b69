"""Encoding: what is learned of texts from training rows, and that nothing from later is among it."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.core.models.encoding import EncodedClassifier, Encoder, EncodingConfig, learn_texts
from fraud_assets.core.units import MICROSECONDS_PER_DAY

FEW = EncodingConfig(own_column=2, own_column_rows=1, smoothing=1.0)


def learned(texts, y, fit=None, known=None, config=FEW, **rest):
    """What rows of consecutive days teach, whose labels became known a day and a half later."""
    n = len(y)
    times = np.arange(n, dtype=np.int64) * MICROSECONDS_PER_DAY
    return learn_texts(
        pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()}),
        y=np.asarray(y, dtype=bool),
        times=times,
        known=times + MICROSECONDS_PER_DAY * 3 // 2 if known is None else known,
        fit=np.ones(n, dtype=bool) if fit is None else np.asarray(fit),
        config=config,
        **rest,
    )


def test_a_text_of_few_values_has_a_column_for_each():
    found = learned({"channel": ["web", "shop", "web", "shop"]}, [0, 1, 0, 1])
    (channel,) = found.texts
    assert channel.columns == ("channel = shop", "channel = web")
    assert found.encoded.tolist() == [[0, 1], [1, 0], [0, 1], [1, 0]]


def test_what_is_missing_and_what_was_never_seen_are_defined():
    (channel,) = learned({"channel": ["web", "shop", None, "web"]}, [0, 1, 0, 1]).texts
    assert channel.columns == ("channel = web", "channel = shop", "channel: missing")
    assert channel.encode(pa.array([None, "never seen", "shop"])).tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_rare_values_share_a_column_and_so_does_what_was_never_seen():
    config = EncodingConfig(own_column=3, own_column_rows=2)
    (channel,) = learned({"channel": ["web", "web", "a", "b", "b", "c"]}, [0, 1] * 3, config=config).texts
    assert channel.columns[:3] == ("channel = b", "channel = web", "channel: another value")
    encoded = channel.encode(pa.array(["a", "never seen", "web", None]))
    assert encoded[:, :3].tolist() == [[0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_value_s_frauds_are_those_that_were_known_before_the_row():
    """Worked out by hand: log((frauds of the value + 1) / (its rows times the rate of all + 1)), known by then."""
    city = ["Bonn", "Ulm", "Bonn", "Kiel", "Bonn"]
    found = learned({"city": city}, [1, 0, 0, 1, 0], config=EncodingConfig(own_column=0, smoothing=1.0))
    expected = [
        0.0,
        0.0,  # the first label is known at 1.5 days
        math.log((1 + 1) / (1 * 1 / 1 + 1)),  # day 2: Bonn's fraud, which is all that is known
        0.0,  # day 3: nothing of Kiel
        math.log((1 + 1) / (2 * 1 / 3 + 1)),  # day 4: days 0 to 2 are known; Bonn has two of them, one a fraud
    ]
    np.testing.assert_allclose(found.encoded[:, 0], expected, rtol=1e-6)
    # Frozen: 3 rows of Bonn with one of the 2 frauds among 5; nothing of what was never seen.
    (text,) = found.texts
    frozen = text.encode(pa.array(["Bonn", "Kiel", "never seen"]))[:, 0]
    bonn, kiel = math.log((1 + 1) / (3 * 2 / 5 + 1)), math.log((1 + 1) / (1 * 2 / 5 + 1))
    np.testing.assert_allclose(frozen, [bonn, kiel, 0.0], rtol=1e-6)


def test_a_value_of_one_fraud_does_not_give_that_fraud_away():
    n = 400
    y = np.arange(n) % 4 == 0
    code = [f"v{number // 2}" for number in range(n)]  # each value comes twice
    found = learned({"code": code}, y, config=EncodingConfig(own_column=0, smoothing=0.1))
    # Labels come after a day and a half, so the second row of a value knows nothing of the first.
    assert not found.encoded.any()


def test_rows_that_are_not_learned_from_are_encoded_with_what_the_others_taught():
    city = ["Bonn", "Ulm", "Kiel", "Bonn", "Ulm", "Jena"]
    fit = [True] * 3 + [False] * 3
    config = EncodingConfig(own_column=0, smoothing=1.0, repeated=0)
    found, other = (learned({"city": city}, [1, 0, 0, *later], fit, config=config) for later in ([0, 0, 0], [1, 1, 1]))
    assert found.texts == other.texts
    np.testing.assert_array_equal(found.encoded, other.encoded)
    np.testing.assert_allclose(
        found.encoded[3:, 0], [math.log(2 / (1 / 3 + 1)), math.log(1 / (1 / 3 + 1)), 0], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([None] * 40, "has no value in any row"),
        (["x"] * 40, "has the same value in every row, x"),
        (["y" * 99] * 40, f"has the same value in every row, '{'y' * 40}...'"),
        ([f"id {number}" for number in range(40)], "has a value of its own in 100.0 % of the rows"),
    ],
)
def test_a_text_that_says_nothing_is_left_out_with_the_reason_unless_it_is_forced(values, reason):
    y = np.arange(40) % 2 == 0
    found = learned({"a": values}, y)
    assert found.texts == ()
    assert found.encoded.shape == (40, 0)
    assert found.unused["a"].startswith(reason)
    forced = learned({"a": values}, y, forced=["a"])
    assert [text.name for text in forced.texts] == ["a"]
    assert forced.unused == {}


def test_a_wide_table_has_a_bounded_number_of_columns():
    """300 texts of up to 1,000 values: those with the fewest are served first, all others have their frauds' column."""
    draws = np.random.default_rng(3)
    n = 3000
    texts = {f"t{k}": draws.integers(0, 2 + k * 3, n).astype(str) for k in range(300)}
    found = learned(texts, draws.random(n) < 0.1, config=EncodingConfig())
    own = sum(len(text.own) for text in found.texts)
    assert own <= EncodingConfig().columns
    assert found.encoded.shape[1] <= EncodingConfig().columns + 3 * 300
    by_name = {text.name: text for text in found.texts}
    assert len(by_name["t0"].own) == 2
    assert all(text.own or text.has_rate for text in found.texts)


# For any text

values = st.one_of(st.none(), st.sampled_from(["", " ", "a", "A", "á", "a\u0301", "日本", "\U0001f600", "a" * 300]))
rows = st.lists(st.tuples(values, st.text(max_size=3), st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)
configs = st.builds(
    EncodingConfig,
    own_column=st.integers(0, 4),
    own_column_rows=st.integers(1, 3),
    columns=st.integers(0, 5),
    smoothing=st.sampled_from([0.1, 1.0, 30.0]),
    values=st.integers(1, 5),
    repeated=st.sampled_from([0.0, 0.5, 1.0]),
)


def learned_of(given_rows, config, later=None, forced=()):
    """The rows, one a day; labels from `later` on are the opposite."""
    a, b, y, delay = zip(*given_rows, strict=True)
    n = len(y)
    times = np.arange(n, dtype=np.int64) * MICROSECONDS_PER_DAY
    known = times + np.asarray(delay, dtype=np.int64) * MICROSECONDS_PER_DAY
    y = np.asarray(y)
    if later is not None:
        y = np.where(known >= times[later], ~y, y)
    return learned({"a": a, "b": b}, y, known=known, config=config, forced=forced), pa.table(
        {"a": pa.array(a, pa.string()), "b": pa.array(b, pa.string())}
    )


@settings(max_examples=150, deadline=None)
@given(rows, configs)
def test_any_text_is_finite_numbers_as_many_as_there_are_names_and_survives_json(given_rows, config):
    found, table = learned_of(given_rows, config)
    encoder = Encoder((), found.texts, found.unused)
    assert set(found.unused) | {text.name for text in found.texts} == {"a", "b"}
    assert found.encoded.shape == (len(given_rows), len(encoder.columns))
    assert len(set(encoder.columns)) == len(encoder.columns)
    assert np.isfinite(found.encoded).all()
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder
    none = np.empty((table.num_rows, 0), dtype=np.float32)
    encoded = again.encode(none, [table[text.name] for text in again.texts])
    if encoder.texts:
        assert encoded.dtype == np.float32
        # All that does not follow what was known is the same for rows that were learned from.
        follows = [name.endswith(": frauds") for name in encoder.columns]
        np.testing.assert_array_equal(encoded[:, ~np.array(follows)], found.encoded[:, ~np.array(follows)])


@settings(max_examples=150, deadline=None)
@given(rows, configs, st.data())
def test_labels_that_became_known_later_change_no_earlier_row(given_rows, config, data):
    later = data.draw(st.integers(0, len(given_rows) - 1))
    before, _ = learned_of(given_rows, config)
    after, _ = learned_of(given_rows, config, later=later)
    np.testing.assert_array_equal(before.encoded[: later + 1], after.encoded[: later + 1])


@settings(max_examples=100, deadline=None)
@given(rows, configs)
def test_a_row_is_encoded_alone_as_among_others(given_rows, config):
    found, table = learned_of(given_rows, config)
    many = pa.concat_tables([table] * 101)
    for text in found.texts:
        together = text.encode(many[text.name])
        np.testing.assert_array_equal(together, np.tile(together[: len(table)], (101, 1)))
        together = together[: len(table)]
        alone = [text.encode(pa.array([value], pa.string()))[0] for value in table[text.name].to_pylist()]
        np.testing.assert_array_equal(together, alone)


class Sums:
    """A classifier whose probability is the sum of its columns."""

    def predict_proba(self, X):
        return np.column_stack([1 - X.sum(axis=1), X.sum(axis=1)])


def test_the_model_of_the_registry_takes_tables_frames_and_arrays():
    (text,) = learned({"channel": ["web", "shop", "web", None]}, [0, 1, 0, 1]).texts
    encoder = Encoder(("x",), (text,))
    model = EncodedClassifier(encoder.to_json(), Sums())
    table = pa.table({"channel": ["web", None, "other"], "x": pa.array([0.5, 0.25, None], pa.float32())})
    for X in (table, table.to_pandas(), table.select(["x", "channel"]).to_pandas().to_numpy(dtype=object)):
        found = model.predict_proba(X)[:, 1]
        np.testing.assert_array_equal(found, [1.5, 1.25, np.nan])
