"""The breaker opens on a share of a sliding window, and on nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.guards.breaker import PARTS, BreakerConfig, SlidingWindow

answer = st.tuples(st.floats(0, 30), st.integers(1, 50), st.floats(0, 1))
answers = st.lists(answer.map(lambda one: (one[0], one[1], int(one[1] * one[2]))), max_size=40)


@given(answers, st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([1, 20, 200]))
def test_it_opens_when_so_much_of_the_last_seconds_was_held_and_there_were_enough(given_answers, share, least):
    config = BreakerConfig(share=share, seconds=60, least=least)
    window, now, seen = SlidingWindow(config), 0.0, []
    for pause, n, n_held in given_answers:
        now += pause
        seen.append((now, n, n_held))
        opening = window.add(now, n, n_held)
        # What is a part of the window older than the window may still count, and nothing older does.
        surely = [one for one in seen if one[0] > now - 60]
        perhaps = [one for one in seen if one[0] > now - 60 - 2 * 60 / PARTS]
        if surely == perhaps:
            total, held = sum(one[1] for one in surely), sum(one[2] for one in surely)
            assert (opening is not None) == (total >= least and held >= share * total)
        if opening is not None:
            assert sum(one[1] for one in surely) <= opening.n <= sum(one[1] for one in perhaps)
            assert opening.n_held >= share * opening.n
            window.clear()
            seen.clear()


def test_what_is_older_than_the_window_does_not_count():
    window = SlidingWindow(BreakerConfig(share=0.5, seconds=60, least=150))
    assert window.add(0.0, 100, 100) is None
    assert window.add(62.0, 100, 100) is None
    # Within the window there are enough now, and of these too few are held.
    assert window.add(63.0, 200, 0) is None
    opening = window.add(64.0, 100, 100)
    assert (opening.n, opening.n_held) == (400, 200)


def test_without_a_share_it_never_opens():
    window = SlidingWindow(BreakerConfig())
    assert all(window.add(float(second), 1000, 1000) is None for second in range(10))


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0.0}, {"share": 1.1}, {"seconds": 0.5}, {"least": 0}, {"mode": "off"}, {"seconds": float("nan")}],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="the breaker"):
        BreakerConfig(**wrong)
