"""Windows: which rows a month may look at."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.months import month_end, month_of, month_start, shift_month
from fraud_assets.core.windows import (
    MINIMUM_FRAUDS,
    TrainedMonth,
    Window,
    choose_challenger,
    choose_comparison,
    evaluation_window,
    matured_window,
    months_back,
    reference_window,
    training_months,
    when_enough,
)


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


def test_the_matured_window_is_the_month_less_the_maturity():
    assert matured_window("2018-06", 7) == Window(utc(2018, 5, 25), utc(2018, 6, 24))


months = st.builds("{:04d}-{:02d}".format, st.integers(2000, 2100), st.integers(1, 12))
maturities = st.one_of(st.integers(1, 120), st.floats(0.01, 120)).map(float)


@given(
    st.datetimes(utc(2000, 6, 1).replace(tzinfo=None), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC)), maturities
)
def test_each_instant_lies_in_the_matured_window_of_exactly_one_month(moment, maturity):
    nearby = [shift_month(month_of(moment), shift) for shift in range(-1, 7)]
    hits = [month for month in nearby if (w := matured_window(month, maturity)).start <= moment < w.end]
    assert len(hits) == 1
    # All of it is matured when the month ends.
    assert moment + dt.timedelta(days=maturity) <= month_end(hits[0])


@given(months, maturities)
def test_months_back_reach_the_beginning_of_the_matured_window(month, maturity):
    assert month_start(shift_month(month, -months_back(maturity))) <= matured_window(month, maturity).start


@pytest.mark.parametrize(("maturity", "back"), [(1, 1), (28, 1), (28.5, 2), (30, 2), (56, 2), (57, 3)])
def test_a_month_back_is_as_short_as_february(maturity, back):
    assert months_back(maturity) == back


# The matured window of June 2018 with 7 days runs from 25 May to 24 June; its middle is 9 June.


def trained(*months):
    return [TrainedMonth(month, version) for version, month in enumerate(months, 1)]


def test_the_newest_model_that_leaves_half_the_window_is_the_challenger():
    models = trained("2018-03", "2018-04", "2018-05", "2018-06")
    assert choose_challenger(models, "2018-06", 7, champion=None) == TrainedMonth("2018-05", 3)


def test_a_model_trained_after_the_middle_of_the_window_waits_for_the_next_month():
    """With 21 days the window of June is 11 May to 10 June, its middle 26 May: a model of May is too new."""
    models = trained("2018-04", "2018-05")
    assert choose_challenger(models, "2018-06", 21, champion=None) == TrainedMonth("2018-04", 1)
    assert choose_challenger(models, "2018-07", 21, champion=None) == TrainedMonth("2018-05", 2)


def test_the_champion_does_not_challenge_itself():
    assert choose_challenger(trained("2018-04", "2018-05"), "2018-06", 7, champion=2) == TrainedMonth("2018-04", 1)
    assert choose_challenger(trained("2018-05"), "2018-06", 7, champion=1) is None


def test_of_two_versions_of_a_month_the_later_one_challenges_whatever_their_order():
    models = [TrainedMonth("2018-05", 9), TrainedMonth("2018-05", 10), TrainedMonth("2018-05", 2)]
    assert choose_challenger(models, "2018-06", 7, champion=None).version == 10


def test_without_models_there_is_no_challenger():
    assert choose_challenger([], "2018-06", 7, champion=None) is None


@given(months, st.floats(1, 90), st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), max_size=6))
def test_a_challenger_is_always_judged_on_at_least_half_of_the_window_and_on_its_own_future(month, maturity, ages):
    models = [TrainedMonth(shift_month(month, -age), version) for age, version in ages]
    chosen = choose_challenger(models, month, maturity, champion=1)
    if chosen is not None:
        window, whole = evaluation_window(month, maturity, [chosen]), matured_window(month, maturity)
        assert window.start >= chosen.as_of
        assert window.end == whole.end
        assert window.days >= whole.days / 2


def test_models_are_compared_after_the_as_of_time_of_the_newest():
    models = trained("2018-03", "2018-05")
    assert evaluation_window("2018-06", 7, models) == Window(utc(2018, 6, 1), utc(2018, 6, 24))
    assert evaluation_window("2018-06", 7, models[:1]) == Window(utc(2018, 5, 25), utc(2018, 6, 24))
    assert evaluation_window("2018-06", 7, []) == matured_window("2018-06", 7)


# Windows that are made longer until they have enough frauds.


def known(*per_month):
    """So many frauds on the 10th of each of these months of 2018, from January on; and the windows that were asked."""
    moments = [utc(2018, month, 10) for month, n in enumerate(per_month, 1) for _ in range(n)]
    asked = []

    def frauds(window):
        asked.append(window)
        return [moment for moment in moments if window.start <= moment < window.end]

    return frauds, asked


def test_a_month_with_enough_frauds_is_judged_on_its_own_window_and_nothing_else_is_asked():
    frauds, asked = known(0, 0, 0, 0, 0, MINIMUM_FRAUDS)
    found = choose_comparison(trained("2018-03", "2018-04", "2018-05"), "2018-06", 7, None, frauds)
    own = evaluation_window("2018-06", 7, [TrainedMonth("2018-05", 3)])
    assert (found.challenger, found.window, found.n_fraud) == (TrainedMonth("2018-05", 3), own, MINIMUM_FRAUDS)
    assert asked == [own]


def test_a_window_goes_back_as_many_months_as_it_takes():
    """April has 10, May 8 and June 6: 24 since the matured window of April began, on 25 March."""
    frauds, _ = known(50, 50, 50, 10, 8, 6)
    found = choose_comparison(trained("2018-01"), "2018-06", 7, None, frauds)
    assert (found.window, found.n_fraud) == (Window(utc(2018, 3, 25), utc(2018, 6, 24)), 24)


def test_a_window_does_not_go_back_beyond_a_model_s_own_time():
    frauds, _ = known(50, 50, 50, 10, 5, 3)
    found = choose_comparison(trained("2018-04"), "2018-06", 7, None, frauds)
    assert (found.window, found.n_fraud) == (Window(utc(2018, 5, 1), utc(2018, 6, 24)), 8)


def test_of_the_models_with_enough_frauds_since_the_newest_challenges():
    frauds, _ = known(0, 0, 15, 10, 5, 3)
    found = choose_comparison(trained("2018-01", "2018-02", "2018-03", "2018-04"), "2018-06", 7, None, frauds)
    # Since April 18, since March 33.
    assert (found.challenger, found.n_fraud) == (TrainedMonth("2018-02", 2), 33)


def test_where_no_model_has_enough_the_oldest_gathers_on():
    frauds, _ = known(0, 0, 0, 0, 5, 3)
    found = choose_comparison(trained("2018-02", "2018-03", "2018-04"), "2018-06", 7, None, frauds)
    assert (found.challenger, found.n_fraud) == (TrainedMonth("2018-02", 1), 8)
    assert found.window == Window(utc(2018, 3, 1), utc(2018, 6, 24))


def test_a_challenger_to_a_champion_is_one_from_after_it():
    frauds, _ = known(0, 0, 0, 12, 5, 3)
    champion = TrainedMonth("2018-03", 2)
    found = choose_comparison(trained("2018-02", "2018-03", "2018-04"), "2018-06", 7, champion, frauds)
    # Since the model of April 8, which is too few, and the model of February is no challenger to that of March.
    assert (found.challenger, found.window.start) == (TrainedMonth("2018-04", 3), utc(2018, 5, 1))
    alone = choose_comparison([champion], "2018-06", 7, champion, frauds)
    assert (alone.challenger, alone.window.start, alone.n_fraud) == (None, utc(2018, 4, 1), 20)


def test_without_any_model_nothing_is_asked():
    frauds, asked = known(9, 9, 9, 9, 9, 9)
    found = choose_comparison([], "2018-06", 7, None, frauds)
    assert (found.challenger, found.n_fraud, asked) == (None, 0, [])


@given(
    st.integers(6, 12),
    st.floats(1, 90),
    st.lists(st.tuples(st.integers(0, 12), st.integers(2, 9)), max_size=6),
    st.none() | st.integers(1, 6),
    st.lists(st.integers(0, 25), min_size=12, max_size=12),
)
def test_no_comparison_looks_before_a_model_s_time_or_beyond_what_matured(month, maturity, ages, live, counts):
    month = f"2018-{month:02}"
    models = [TrainedMonth(shift_month(month, -age), version) for age, version in ages]
    champion = None if live is None else TrainedMonth(shift_month(month, -live), 1)
    frauds, asked = known(*counts)
    found = choose_comparison(models, month, maturity, champion, frauds)
    compared = [model for model in (found.challenger, champion) if model]
    whole = matured_window(month, maturity)
    assert all(found.window.start >= model.as_of for model in compared)
    assert {window.end for window in [*asked, found.window]} == {whole.end}
    today = choose_challenger(models, month, maturity, 1 if champion else None)
    assert (found.challenger is None) == (today is None)
    if compared:
        assert found.n_fraud == len(frauds(found.window))
        own = evaluation_window(month, maturity, [model for model in (today, champion) if model])
        if len(frauds(own)) >= MINIMUM_FRAUDS:
            assert (found.challenger, found.window) == (today, own)
        elif found.n_fraud < MINIMUM_FRAUDS:
            assert found.window.start == max(model.as_of for model in compared)


@pytest.mark.parametrize(
    ("n", "days", "said"),
    [
        (0, 90, "when that will be cannot be told, since no fraud is known yet"),
        (
            12,
            91.3125,
            "at the present rate of 4 a month, about 2018-09",
        ),  # 8 more take two months and mature in September
        (1, 365.25 / 2, "at the present rate of one in 6 months, not within ten years"),
        (3, 365.25 / 2, "at the present rate of one in 2 months, about 2021-05"),  # 17 more take 34 months
    ],
)
def test_when_there_will_be_enough_follows_from_the_rate(n, days, said):
    window = Window(utc(2018, 7, 1) - dt.timedelta(days=days), utc(2018, 7, 1))
    needed = 22 if n == 1 else 20
    assert when_enough(n, needed, window, 7) == said


def test_a_window_that_is_empty_has_negative_days():
    assert Window(utc(2018, 6, 3), utc(2018, 6, 1)).days == -2


@pytest.mark.parametrize(("window", "first"), [(1, "2018-06"), (3, "2018-04"), (12, "2018-04"), (None, "2018-04")])
def test_a_model_sees_its_month_and_those_before_but_none_before_the_first(window, first):
    assert training_months("2018-06", window, "2018-04") == (first, "2018-06")


# With 7 days of maturity and a first transaction on 1 April, features have filled on 8 May.

FIRST = utc(2018, 4, 1)


def test_the_reference_is_the_part_of_the_training_window_in_which_features_had_filled():
    training = Window(utc(2018, 4, 1), utc(2018, 6, 24))
    assert reference_window(training, FIRST, 7, "2018-07") == Window(utc(2018, 5, 8), utc(2018, 6, 24))


def test_the_reference_is_no_longer_than_a_season():
    training = Window(utc(2018, 4, 1), utc(2018, 12, 25))
    window = reference_window(training, FIRST, 7, "2019-01")
    assert window == Window(utc(2018, 12, 25) - dt.timedelta(days=92), utc(2018, 12, 25))


def test_the_reference_never_overlaps_the_month_under_test():
    training = Window(utc(2018, 4, 1), utc(2018, 9, 24))
    assert reference_window(training, FIRST, 7, "2018-08").end == utc(2018, 8, 1)


def test_fourteen_days_are_enough_and_less_is_replaced_by_the_first_settled_weeks():
    """A training window to 22 May has exactly 14 settled days; one to 21 May has 13."""
    assert reference_window(Window(FIRST, utc(2018, 5, 22)), FIRST, 7, "2018-07").days == 14
    window = reference_window(Window(FIRST, utc(2018, 5, 21)), FIRST, 7, "2018-07")
    assert window == Window(utc(2018, 5, 8), utc(2018, 6, 5))


def test_without_settled_weeks_before_the_month_there_is_no_reference():
    """The settled weeks end on 5 June, which is not before June."""
    assert reference_window(Window(FIRST, utc(2018, 4, 23)), FIRST, 7, "2018-06") is None
    assert reference_window(Window(FIRST, utc(2018, 4, 23)), FIRST, 7, "2018-07") is not None


NEW_YORK = ZoneInfo("America/New_York")


def test_where_months_are_cut_by_local_clocks_windows_and_as_of_times_follow_them():
    """Midnight in New York is 04:00 UTC in summer: a model of June knows what happened until then."""
    model = TrainedMonth("2018-06", 1, NEW_YORK)
    assert model.as_of == utc(2018, 7, 1, 4)
    assert matured_window("2018-07", 7, NEW_YORK) == Window(utc(2018, 6, 24, 4), utc(2018, 7, 25, 4))
    assert evaluation_window("2018-07", 7, [model], NEW_YORK) == Window(utc(2018, 7, 1, 4), utc(2018, 7, 25, 4))
    assert choose_challenger([model], "2018-07", 7, None, NEW_YORK) == model
    training = Window(utc(2018, 4, 1), utc(2018, 9, 24))
    assert reference_window(training, FIRST, 7, "2018-08", NEW_YORK).end == utc(2018, 8, 1, 4)
