"""A bucket: as many requests as its rate gives, and some at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.access.rates import BURST_SECONDS, Bucket


@given(st.integers(1, 6000), st.lists(st.floats(0, 30), max_size=200))
def test_never_more_than_the_rate_and_a_burst_whenever_they_come(per_minute, pauses):
    bucket, now, taken = Bucket(per_minute, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0
    assert taken <= max(1.0, per_minute / 60 * BURST_SECONDS) + now * per_minute / 60 + 1e-6


@pytest.mark.parametrize("per_minute", [1, 7, 60, 6000])
def test_whoever_waits_as_told_is_let_through(per_minute):
    bucket, now = Bucket(per_minute, 0.0), 0.0
    while not (wait := bucket.take(now)):
        pass
    assert bucket.take(now + wait) == 0
