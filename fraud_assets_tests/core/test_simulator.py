"""The simulated world against the published process, worked out by hand; and what it promises beyond it."""

import doctest
import hashlib
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from fraud_assets.core import simulator
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.months import month_end, month_start, months_between
from fraud_assets.core.simulator import DriftSwitch, SimulatorConfig, parse_drifts, simulate_month

ROOT = Path(__file__).parents[2]
# Small enough for many months, large enough for shares: about 30,000 transactions a month.
SMALL = SimulatorConfig(customers=500, terminals=1000)

# Frauds of each scenario as shares of all transactions, for the published ratios.
# 1: the mean of P(N(m, m/2) > 220) = 1 - Phi(440/m - 2) over m ~ U(5, 100) is 0.000574.
# 2: a terminal is free of compromise with probability (1 - 2/10,000)^28 = 0.994415.
# 3: a transaction escapes with probability (1 - 3/5,000/3)^14 = 0.997204.
# A later scenario prevails: 1 counts where neither 2 nor 3 does, 2 where 3 does not.
SHARE_1 = 0.000574 * 0.994415 * 0.997204
SHARE_2 = (1 - 0.994415) * 0.997204
SHARE_3 = 1 - 0.997204
# Normal(43,200, 20,000) stays within the day up to 2.16 standard deviations: 2 Phi(2.16) - 1.
KEPT = 0.969227


def digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def frame(month: str, config: SimulatorConfig) -> pd.DataFrame:
    return simulate_month(month, config).to_pandas()


def with_drift(text: str, config: SimulatorConfig = SMALL) -> SimulatorConfig:
    return replace(config, drifts=parse_drifts(text))


def unchanged(before: pd.DataFrame, after: pd.DataFrame, *, but: set[str]) -> bool:
    return before.drop(columns=list(but)).equals(after.drop(columns=list(but)))


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return frame("2025-04", SimulatorConfig())


@pytest.fixture(scope="module")
def half_year() -> pd.DataFrame:
    """Enough compromises for the shares of the scenarios: 6 months at the published size."""
    months = months_between("2025-01", "2025-06")
    return pd.concat([frame(month, SimulatorConfig()) for month in months], ignore_index=True)


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return frame("2025-04", SMALL)


# The published process, at the published size.


def test_thirty_days_have_about_290_000_transactions(published: pd.DataFrame) -> None:
    # 5,000 customers x 2 a day x 30 days x 0.969. How busy 5,000 customers are has a standard error of
    # 4 / sqrt(12 * 5,000) / 2 = 0.8%; three of them are allowed.
    assert len(published) == pytest.approx(5000 * 2 * 30 * KEPT, rel=0.024)


def test_the_amounts_have_the_mean_of_the_process(published: pd.DataFrame) -> None:
    # For a customer of mean m: m Phi(2) + m/2 phi(2), plus m (the mean of U(0, 2m)) with probability
    # 1 - Phi(2). That is m (1 + phi(2) / 2) = 1.027 m, and m is 52.5 on average. Its standard error over
    # 5,000 customers, weighted by how busy they are (E[r^2] / E[r]^2 = 4/3), is 27.4 sqrt(4/15,000) = 0.45.
    genuine = published.loc[published.fraud_scenario == 0, "amount"]
    assert genuine.mean() == pytest.approx(1.027 * 52.5, abs=1.4)


@pytest.mark.parametrize(
    ("multiple", "probability"),
    [
        # An amount of N(m, m/2), or of U(0, 2m) when that is negative, is at most x m with probability
        # Phi(2x - 2) - Phi(-2) + Phi(-2) x/2, for x from 0 to 2. Phi(-2) = 0.02275.
        (0.1, 0.035930 - 0.02275 + 0.02275 * 0.05),
        (0.5, 0.158655 - 0.02275 + 0.02275 * 0.25),
        (1.0, 0.500000 - 0.02275 + 0.02275 * 0.50),
        (2.0, 0.977250),
    ],
)
def test_amounts_spread_around_the_customers_mean_as_published(multiple: float, probability: float) -> None:
    calm = SimulatorConfig(compromised_terminals_per_day=0, compromised_customers_per_day=0)
    rows = frame("2025-04", calm)
    mean = simulator._world(0, 5000, 10_000, 5.0).mean_amount[rows.customer_id]
    # 290,000 transactions: a standard error of 0.001 at most. A cent is rounded away.
    assert (rows.amount <= multiple * mean).mean() == pytest.approx(probability, abs=0.003)


@pytest.mark.parametrize(
    ("scenario", "share", "tolerance"),
    [(1, SHARE_1, 0.16), (2, SHARE_2, 0.08), (3, SHARE_3, 0.09)],
)
def test_each_scenario_has_the_share_that_follows_from_its_definition(
    half_year: pd.DataFrame, scenario: int, share: float, tolerance: float
) -> None:
    # Three standard errors each. 1: 1,000 frauds (3.2%) of the few customers with large amounts (4.4%). 2:
    # 362 compromises of terminals about equally busy. 3: 543 compromises of customers that are not (2.5%).
    assert (half_year.fraud_scenario == scenario).mean() == pytest.approx(share, rel=tolerance)


def test_nine_in_a_thousand_transactions_are_fraud(half_year: pd.DataFrame) -> None:
    # 0.8935% by the shares above; the published months from 2018-05 to 2018-07 have 0.87% to 0.89%.
    assert half_year.is_fraud.mean() == pytest.approx(0.008935, rel=0.06)


def test_the_first_week_of_a_month_has_as_much_fraud_as_the_last(half_year: pd.DataFrame) -> None:
    by_week = half_year.is_fraud.groupby((half_year.event_timestamp.dt.day - 1) // 7).mean()
    assert by_week[0] == pytest.approx(by_week[3], rel=0.2)


def test_every_amount_above_220_is_fraud(published: pd.DataFrame) -> None:
    above = published[published.amount > 220]
    assert len(above) > 100
    assert above.is_fraud.all()


def test_scenario_1_is_exactly_the_amounts_above_220_that_nothing_else_explains(
    published: pd.DataFrame,
) -> None:
    others = published[published.fraud_scenario <= 1]
    assert ((others.fraud_scenario == 1) == (others.amount > 220)).all()


def test_a_compromised_terminal_takes_only_frauds_for_28_days() -> None:
    # One compromise in five days, of 1,000 terminals: few have two, and the days of one can be read off its
    # frauds.
    config = replace(SMALL, compromised_terminals_per_day=0.2, compromised_customers_per_day=0)
    rows = pd.concat([frame(month, config) for month in months_between("2025-01", "2025-06")])
    rows["day"] = (rows.event_timestamp - rows.event_timestamp.min().normalize()).dt.days
    frauds = rows[rows.fraud_scenario == 2].groupby("terminal_id").day
    spans = frauds.max() - frauds.min() + 1
    # A terminal has about one transaction a day here, so its first and last fraud lie within a day or two of
    # the ends.
    assert 25 <= spans.median() <= 28
    for terminal in spans[spans <= 28].index:
        inside = rows[(rows.terminal_id == terminal) & rows.day.between(frauds.min()[terminal], frauds.max()[terminal])]
        assert inside.is_fraud.all()


def test_a_third_of_a_compromised_customers_transactions_are_fraud_at_five_times_the_amount() -> None:
    everyone = replace(SMALL, compromised_terminals_per_day=0, compromised_customers_per_day=0)
    # Each of 500 customers compromised anew each day is under 14 compromises: 1 - (2/3)^14 are fraud.
    attacked = frame("2025-04", replace(everyone, compromised_customers_per_day=500))
    calm = frame("2025-04", everyone)
    taken = attacked.fraud_scenario == 3
    assert taken.mean() == pytest.approx(1 - (2 / 3) ** 14, abs=0.001)
    np.testing.assert_allclose(attacked.amount[taken], 5 * calm.amount[taken], atol=0.005)
    np.testing.assert_array_equal(attacked.amount[~taken], calm.amount[~taken])


def test_times_of_day_have_the_spread_of_a_normal_cut_at_the_day(published: pd.DataFrame) -> None:
    time = published.event_timestamp
    seconds = time.dt.hour * 3600 + time.dt.minute * 60 + time.dt.second
    # Var = 20,000^2 (1 - 2 * 2.16 phi(2.16) / (2 Phi(2.16) - 1)) = 17,816^2.
    variance = 1 - 2 * 2.16 * stats.norm.pdf(2.16) / KEPT
    assert seconds.mean() == pytest.approx(43_200, abs=150)
    assert seconds.std() == pytest.approx(20_000 * math.sqrt(variance), rel=0.01)


def test_a_customer_buys_only_within_the_radius() -> None:
    config = replace(SMALL, radius=7.0)
    habits = simulator._stream(0, simulator._Draw.CUSTOMERS).random((500, 4))
    homes = 100 * habits[:, :2]
    places = 100 * simulator._stream(0, simulator._Draw.TERMINALS).random((1000, 2))
    rows = frame("2025-04", config)
    away = np.linalg.norm(homes[rows.customer_id] - places[rows.terminal_id], axis=1)
    # The farthest of 30,000 draws that are uniform over discs lies close to the rim.
    assert 6.9 < away.max() <= 7.0


# Any month, any order.


def test_a_month_is_the_same_alone_in_a_range_or_in_reverse() -> None:
    months = months_between("2024-11", "2025-02")
    config = with_drift("amount_inflation@2024-12,new_merchant_segment@2025-01,new_fraud_pattern@2025-02")
    forwards = {month: digest(simulate_month(month, config)) for month in months}
    simulator._world.cache_clear()
    backwards = {month: digest(simulate_month(month, config)) for month in reversed(months)}
    simulator._world.cache_clear()
    assert backwards == forwards
    assert digest(simulate_month("2025-01", config)) == forwards["2025-01"]
    assert len(set(forwards.values())) == 4


def test_another_seed_is_another_world(small: pd.DataFrame) -> None:
    assert not frame("2025-04", replace(SMALL, seed=1)).equals(small)


def test_compromises_carry_over_from_one_month_into_the_next() -> None:
    config = replace(SMALL, compromised_terminals_per_day=2.0, compromised_customers_per_day=0)
    late = frame("2025-03", config)
    early = frame("2025-04", config)
    on_the_last_day = late[(late.event_timestamp.dt.day == 31) & (late.fraud_scenario == 2)]
    on_the_first_day = early[(early.event_timestamp.dt.day == 1) & (early.fraud_scenario == 2)]
    # 56 of 1,000 terminals are compromised, and 54 of them stay so overnight.
    assert len(on_the_first_day) > 30
    assert len(set(on_the_last_day.terminal_id) & set(on_the_first_day.terminal_id)) > 5
    # Only the two that became compromised on the first of April can have been genuine the day before.
    yesterday = late[late.event_timestamp.dt.day == 31]
    genuine_yesterday = set(yesterday[~yesterday.is_fraud].terminal_id)
    assert len(set(on_the_first_day.terminal_id) & genuine_yesterday) <= 2


@pytest.mark.parametrize("month", ["2024-02", "2025-02", "2024-12"])
def test_times_lie_inside_the_month_and_ids_count_along_them(month: str) -> None:
    rows = frame(month, SMALL)
    assert rows.event_timestamp.min() >= month_start(month)
    assert rows.event_timestamp.max() < month_end(month)
    assert rows.event_timestamp.is_monotonic_increasing
    assert rows.event_timestamp.dt.day.nunique() == (month_end(month) - month_start(month)).days
    first = int(month.replace("-", "")) * 10**8
    np.testing.assert_array_equal(rows.transaction_id, first + np.arange(len(rows)))


def test_a_month_has_the_columns_the_simulators_contract_reads() -> None:
    table = simulate_month("2025-04", SMALL)
    assert table.schema == simulator.SCHEMA
    table.validate(full=True)
    contract = load_contract(ROOT / "contracts" / "simulator.yaml")
    schema = contract.transactions_schema()
    assert table.select(schema.names).cast(schema).num_rows == table.num_rows
    assert {contract.label.column, contract.label.known_at} <= set(table.column_names)


def test_amounts_have_two_decimals_and_are_never_negative(published: pd.DataFrame) -> None:
    assert published.amount.min() >= 0
    np.testing.assert_array_equal(published.amount, published.amount.round(2))


# Label delays.


def test_only_frauds_have_a_label_time_and_never_before_the_event(published: pd.DataFrame) -> None:
    assert (published.label_timestamp.notna() == published.is_fraud).all()
    frauds = published[published.is_fraud]
    assert (frauds.label_timestamp > frauds.event_timestamp).all()


def test_half_of_the_labels_take_five_days_and_two_in_a_hundred_more_than_fourteen(
    half_year: pd.DataFrame,
) -> None:
    frauds = half_year[half_year.is_fraud]
    days = (frauds.label_timestamp - frauds.event_timestamp).dt.total_seconds() / 86_400
    assert days.median() == pytest.approx(5.0, rel=0.03)
    # 1 - Phi(ln(14 / 5) / 0.5) = 1 - Phi(2.0592) = 0.01974, from about 15,000 frauds.
    assert (days > 14).mean() == pytest.approx(0.01974, abs=0.004)
    assert days.max() <= 60


def test_no_label_takes_longer_than_the_cap() -> None:
    config = replace(SMALL, label_delay_sigma=3.0, label_delay_cap_days=9.0)
    frauds = frame("2025-04", config).query("is_fraud")
    days = (frauds.label_timestamp - frauds.event_timestamp).dt.total_seconds() / 86_400
    assert days.max() == 9.0


def test_more_frauds_leave_the_delays_of_the_others_alone(small: pd.DataFrame) -> None:
    more = frame("2025-04", with_drift("new_fraud_pattern@2025-04:0.2"))
    both = small.is_fraud & more.is_fraud
    assert more.is_fraud.sum() > small.is_fraud.sum()
    assert both.sum() == small.is_fraud.sum()
    pd.testing.assert_series_equal(small.label_timestamp[both], more.label_timestamp[both])


# Drift.


@pytest.mark.parametrize("kind", list(simulator.DRIFT_KINDS))
def test_a_drift_changes_nothing_before_its_month(kind: str, small: pd.DataFrame) -> None:
    drifting = with_drift(f"{kind}@2025-05")
    assert frame("2025-04", drifting).equals(small)
    assert not frame("2025-05", drifting).equals(frame("2025-05", SMALL))


def test_amount_inflation_multiplies_amounts_and_leaves_fraud_as_it_was(small: pd.DataFrame) -> None:
    after = frame("2025-04", with_drift("amount_inflation@2025-04:1.8"))
    assert unchanged(small, after, but={"amount"})
    np.testing.assert_allclose(after.amount, 1.8 * small.amount, atol=0.00501)
    # At 1.8 times, an amount above 122 reads above 220 and is as genuine as before.
    assert ((after.amount > 220) & ~after.is_fraud).any()


def test_missing_values_takes_a_share_of_the_amounts_and_nothing_else(small: pd.DataFrame) -> None:
    after = frame("2025-04", with_drift("missing_values@2025-04:0.25"))
    assert unchanged(small, after, but={"amount"})
    # 30,000 transactions: a standard error of 0.0025.
    assert after.amount.isna().mean() == pytest.approx(0.25, abs=0.01)
    known = after.amount.notna()
    np.testing.assert_array_equal(after.amount[known], small.amount[known])


def test_a_new_merchant_segment_takes_a_share_of_the_transactions_to_new_terminals(
    small: pd.DataFrame,
) -> None:
    after = frame("2025-04", with_drift("new_merchant_segment@2025-04:0.3"))
    moved = after.merchant_segment == "digital_goods"
    assert moved.mean() == pytest.approx(0.3, abs=0.012)
    # 1,000 terminals have the numbers 0 to 999, the 100 new ones come after them.
    assert set(after.terminal_id[moved]) == set(range(1000, 1100))
    assert after.terminal_id[~moved].max() < 1000
    assert unchanged(small[~moved], after[~moved], but=set())
    kept = ["transaction_id", "event_timestamp", "customer_id"]
    assert small[kept].equals(after[kept])


def test_new_terminals_become_compromised_like_others_but_not_before_they_open() -> None:
    config = replace(with_drift("new_merchant_segment@2025-03:0.3"), compromised_terminals_per_day=10.0)
    opening, later = frame("2025-03", config), frame("2025-04", config)
    # One of the 100 new terminals a day: none under way on opening day but its own, and (1 - 1/100)^28 =
    # 0.755 of them free of it a month later.
    first_day = opening[(opening.terminal_id >= 1000) & (opening.event_timestamp.dt.day == 1)]
    assert first_day[first_day.fraud_scenario == 2].terminal_id.nunique() <= 1
    new = later[later.terminal_id >= 1000]
    assert (new.fraud_scenario == 2).mean() == pytest.approx(0.245, abs=0.05)


def test_the_new_fraud_pattern_strikes_at_hot_spots_with_ordinary_amounts(small: pd.DataFrame) -> None:
    after = frame("2025-04", with_drift("new_fraud_pattern@2025-04:0.05"))
    struck = after.fraud_scenario == 4
    assert unchanged(small, after, but={"is_fraud", "fraud_scenario", "label_timestamp"})
    assert (small.fraud_scenario[~struck] == after.fraud_scenario[~struck]).all()
    assert (small.fraud_scenario[struck] == 0).all()
    # 50 of 1,000 terminals, some of which no customer reaches; of what happens there and is not fraud
    # anyway, a third.
    hot = after.terminal_id.isin(after.terminal_id[struck].unique()) & (small.fraud_scenario == 0)
    assert 40 <= after.terminal_id[struck].nunique() <= 50
    assert struck[hot].mean() == pytest.approx(1 / 3, abs=0.04)
    assert after.amount[struck].max() <= 220
    assert after.amount[struck].mean() == pytest.approx(after.amount[~after.is_fraud].mean(), rel=0.15)


def test_hot_spots_stay_where_they_are() -> None:
    drifting = with_drift("new_fraud_pattern@2025-04:0.05")
    first, second = frame("2025-04", drifting), frame("2025-05", drifting)
    at = [set(rows.terminal_id[rows.fraud_scenario == 4]) for rows in (first, second)]
    # 50 of 1,000 terminals: had they moved, the months would share 2 or 3.
    assert len(at[0] | at[1]) <= 50
    assert len(at[0] & at[1]) >= 35


def test_drifts_add_up_without_disturbing_each_other() -> None:
    both = frame("2025-04", with_drift("amount_inflation@2025-01:2,missing_values@2025-04"))
    one = frame("2025-04", with_drift("missing_values@2025-04"))
    np.testing.assert_array_equal(both.amount, 2 * one.amount)


def test_a_later_switch_replaces_an_earlier_one_of_its_kind(small: pd.DataFrame) -> None:
    config = with_drift("amount_inflation@2025-04:1.0,amount_inflation@2025-01:3")
    assert config.strength("amount_inflation", "2025-03") == 3.0
    assert frame("2025-04", config).equals(small)


# Reading and checking what is asked for.


def test_drifts_are_read_with_their_strength_or_the_default() -> None:
    assert parse_drifts(" amount_inflation@2025-04:1.8 ,missing_values@2025-05") == (
        DriftSwitch("amount_inflation", "2025-04", 1.8),
        DriftSwitch("missing_values", "2025-05", 0.1),
    )


@pytest.mark.parametrize("text", ["", "  "])
def test_no_text_means_no_drift(text: str) -> None:
    assert parse_drifts(text) == ()


@pytest.mark.parametrize(
    ("kind", "strength"),
    [
        ("amount_inflation", 1.5),
        ("new_merchant_segment", 0.1),
        ("new_fraud_pattern", 0.02),
        ("missing_values", 0.1),
    ],
)
def test_each_kind_has_its_default_strength(kind: str, strength: float) -> None:
    assert DriftSwitch(kind, "2025-04").strength == strength


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("inflation@2025-04", "there is no drift 'inflation'"),
        ("amount_inflation", "the month is missing"),
        ("amount_inflation@2025-13", "'2025-13' is not a month"),
        ("amount_inflation@2025-04:", "the strength '' is not a number"),
        ("amount_inflation@2025-04:high", "the strength 'high' is not a number"),
        ("amount_inflation@2025-04:0", "amount_inflation needs a factor above 0"),
        ("amount_inflation@2025-04:inf", "amount_inflation needs a factor above 0"),
        ("missing_values@2025-04:nan", "missing_values needs a share between 0 and 1"),
        ("missing_values@2025-04:10", "missing_values needs a share between 0 and 1"),
        ("", "the month is missing"),
    ],
)
def test_a_drift_that_cannot_be_read_is_named_with_the_kinds_that_exist(part: str, reason: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as error:
        parse_drifts(f"missing_values@2025-05,{part}")
    assert f"drift {part!r} cannot be read: {reason}" in str(error.value)
    assert all(kind in str(error.value) for kind in simulator.DRIFT_KINDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"customers": 0}, "customers is 0"),
        ({"customers": 1_000_001}, "customers is 1000001"),
        ({"customers": 2.5}, "customers is 2.5"),
        ({"terminals": 0}, "terminals is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"radius": math.nan}, "radius is nan"),
        ({"compromised_terminals_per_day": -1.0}, "compromised_terminals_per_day is -1.0"),
        ({"terminals": 3, "compromised_terminals_per_day": 4.0}, "between 0 and 3"),
        ({"customers": 3, "compromised_customers_per_day": 4.0}, "between 0 and 3"),
        ({"label_delay_median_days": 0.0}, "label_delay_median_days is 0.0"),
        ({"label_delay_sigma": -0.1}, "label_delay_sigma is -0.1"),
        ({"label_delay_cap_days": 4.0}, "label_delay_cap_days is 4.0, below the median"),
        ({"drifts": parse_drifts("missing_values@2025-04,missing_values@2025-04:0.2")}, "same month"),
    ],
)
def test_a_world_that_cannot_be_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatorConfig(**change)


def test_a_reach_that_memory_cannot_hold_is_refused_with_a_radius_that_fits() -> None:
    # 100,000 customers x 1,000,000 terminals x pi 1.78^2 / 100^2 = 99.5 million pairs, of 100 million
    # allowed; a radius of 1.79 would make 100.7.
    with pytest.raises(ValueError, match=r"a radius up to 1\.78 fits"):
        SimulatorConfig(customers=100_000, terminals=1_000_000)
    assert SimulatorConfig(customers=100_000, terminals=1_000_000, radius=1.78).radius == 1.78


@pytest.mark.parametrize("month", ["2025-4", "1969-12"])
def test_a_month_that_cannot_be_simulated_is_refused(month: str) -> None:
    with pytest.raises(ValueError, match=month):
        simulate_month(month, SMALL)


# Sizes.


def test_one_customer_and_one_terminal_make_a_world() -> None:
    rows = frame("2025-04", SimulatorConfig(customers=1, terminals=1, radius=0.1))
    assert len(rows) > 0
    assert set(rows.terminal_id) == {0}


def test_a_customer_out_of_reach_of_all_terminals_uses_the_nearest() -> None:
    config = SimulatorConfig(customers=200, terminals=5, radius=0.01)
    homes = 100 * simulator._stream(0, simulator._Draw.CUSTOMERS).random((200, 4))[:, :2]
    places = 100 * simulator._stream(0, simulator._Draw.TERMINALS).random((5, 2))
    nearest = np.linalg.norm(homes[:, None] - places, axis=2).argmin(axis=1)
    rows = frame("2025-04", config)
    np.testing.assert_array_equal(rows.terminal_id, nearest[rows.customer_id])


def test_everyone_can_be_compromised_every_day() -> None:
    config = SimulatorConfig(customers=2, terminals=2, compromised_terminals_per_day=2.0)
    assert frame("2025-04", config).is_fraud.all()


def test_a_world_without_compromises_has_large_amounts_only_as_fraud() -> None:
    config = replace(SMALL, compromised_terminals_per_day=0, compromised_customers_per_day=0)
    rows = frame("2025-04", config)
    assert (rows.is_fraud == (rows.amount > 220)).all()


@pytest.mark.parametrize(("terminals", "per_day"), [(10_000, 2.0), (1000, 0.2), (2500, 0.5)])
def test_the_published_ratio_scales_with_the_size(terminals: int, per_day: float) -> None:
    config = SimulatorConfig(customers=10, terminals=terminals)
    attack = simulator._attack(config, "2025-04", range(739_000, 739_000 + 3000))
    numbers = [len(ids) for ids in attack.terminals.values()]
    assert np.mean(numbers) == pytest.approx(per_day, abs=0.04)
    assert set(numbers) == ({2} if per_day == 2.0 else {0, 1})


def test_exactly_three_customers_a_day_become_compromised_at_the_published_size() -> None:
    attack = simulator._attack(SimulatorConfig(), "2025-04", range(739_000, 739_030))
    assert {len(set(ids)) for ids in attack.customers.values()} == {3}


def test_the_examples_in_the_documentation_hold() -> None:
    result = doctest.testmod(simulator)
    assert result.attempted >= 4
    assert result.failed == 0


# The flat example.

FLAT = [(month, ROOT / "examples" / f"flat_transactions_{month}.csv") for month in ("2024-01", "2024-02", "2024-03")]


@pytest.mark.parametrize(("month", "path"), FLAT)
def test_the_flat_example_keeps_its_contract(month: str, path: Path) -> None:
    contract = load_contract(ROOT / "contracts" / "flat_example.yaml")
    rows = pd.read_csv(path)
    assert path.name == contract.file_pattern.format(month=month)
    assert list(rows.columns) == ["id", "timestamp", *contract.attributes, "amount", "fraud"]
    assert rows.id.is_unique
    assert not rows.isna().any(axis=None)
    times = pd.to_datetime(rows.timestamp, utc=True)
    assert month_start(month) <= times.min()
    assert times.max() < month_end(month)
    assert (rows[["v4", "amount"]] >= 0).all(axis=None)
    assert contract.entities == {}


def test_four_in_a_hundred_flat_examples_are_fraud_and_their_features_tell() -> None:
    rows = pd.concat([pd.read_csv(path) for _, path in FLAT])
    # 4,500 rows at 0.04: a standard error of 0.0029.
    assert rows.fraud.mean() == pytest.approx(0.04, abs=0.009)
    fraud, genuine = rows[rows.fraud == 1], rows[rows.fraud == 0]
    # About 180 frauds: a standard error of 0.075, and of twice that for v3's and v4's spread.
    assert fraud.v1.mean() - genuine.v1.mean() == pytest.approx(1.4, abs=0.23)
    assert fraud.v2.mean() - genuine.v2.mean() == pytest.approx(-1.0, abs=0.23)
    assert fraud.v3.std() == pytest.approx(2.0, abs=0.35)
    assert fraud.v4.mean() == pytest.approx(2.0, abs=0.45)
    assert abs(fraud.v6.mean() - genuine.v6.mean()) < 0.23


def test_the_first_month_that_can_be_simulated_begins_on_the_first_of_january_1970() -> None:
    first = simulate_month("1970-01", SimulatorConfig(customers=50, terminals=50))["event_timestamp"][0].as_py()
    assert datetime(1970, 1, 1, tzinfo=UTC) <= first < datetime(1970, 1, 2, tzinfo=UTC)
