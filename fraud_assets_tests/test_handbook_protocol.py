"""The Handbook's protocol in the benchmark: what is known when, what card precision counts, and the whole command."""

import datetime as dt
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import handbook
from benchmarks.handbook import Cards, card_precision, load_cards, main, published_features, split
from fraud_assets.core.models.training import TrainingConfig
from fraud_assets.core.simulator import SimulatorConfig, simulate_month
from fraud_assets_tests.conftest import HANDBOOK_NAMES

FIRST = dt.date(2018, 6, 1)
EPOCH = dt.date(1970, 1, 1)


def cards(frauds, days=21, n_cards=3):
    """Each card buys once a day at noon for 10, at its own terminal; `frauds` are pairs of day and card."""
    rows = [(day, card) for day in range(days) for card in range(n_cards)]
    moments = [dt.datetime(2018, 6, 1, 12, tzinfo=dt.UTC) + dt.timedelta(days=day) for day, _ in rows]
    table = pa.table(
        {
            "transaction_id": list(range(len(rows))),
            "event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
            "customer_id": [card for _, card in rows],
            "terminal_id": [card for _, card in rows],
            "amount": [10.0] * len(rows),
        }
    )
    return Cards(
        transactions=table,
        statements=table.slice(0, 0),
        day=np.array([(FIRST - EPOCH).days + day for day, _ in rows]),
        card=np.array([card for _, card in rows]),
        fraud=np.array([int(row in frauds) for row in rows]),
    )


# --- what is known when


def days_and_cards(frauds):
    """Pairs of day and card among the test rows."""
    data = cards(frauds)
    _, test = split(data, FIRST, all_history=False)
    return {(int(data.day[row]) - (FIRST - EPOCH).days, int(data.card[row])) for row in test}


def test_without_frauds_every_card_of_the_third_week_is_tested():
    assert days_and_cards(set()) == {(day, card) for day in range(14, 21) for card in range(3)}


@pytest.mark.parametrize(
    ("fraud_day", "left_out"),
    [(0, range(14, 21)), (6, range(14, 21)), (7, range(15, 21)), (12, range(20, 21)), (13, []), (14, [])],
)
def test_a_card_is_left_out_once_its_fraud_is_eight_days_old(fraud_day, left_out):
    assert {day for day in range(14, 21) if (day, 1) not in days_and_cards({(fraud_day, 1)})} == set(left_out)


def test_training_ends_a_week_before_the_test_days():
    training, _ = split(cards(set()), FIRST, all_history=False)
    assert training.tolist() == list(range(7 * 3))


@pytest.mark.parametrize(("start", "begins"), [(35, 30), (10, 10)])
def test_all_history_begins_after_the_first_month_and_never_later_than_the_week(start, begins):
    training, _ = split(cards(set(), days=60, n_cards=1), FIRST + dt.timedelta(days=start), all_history=True)
    assert training.tolist() == list(range(begins, start + 7))


def test_published_windows_include_the_transaction_and_risk_ends_a_week_before_it():
    """Card 0 on day 8: nine purchases so far; its terminal had one in the day up to a week before, a fraud."""
    row = published_features(cards({(1, 0)}))[8 * 3]
    amount, weekend, night, *windows = row.tolist()
    assert (amount, weekend, night) == (10, 1, 0)  # 9 June 2018 was a Saturday
    # In 1, 7 and 30 days, whose earlier end does not count: purchases and their mean, then the terminal's and its risk.
    assert windows == [1, 10, 7, 10, 9, 10, 1, 1, 2, 0.5, 2, 0.5]


# --- card precision


def test_a_card_that_was_found_is_not_looked_for_on_later_days():
    """With one card a day: card 1 is found on the first day, so the second day's best is card 2, genuine."""
    day, card = np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2])
    fraud, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.9, 0.1])
    assert card_precision(day, card, fraud, score, k=1) == 0.5


def test_a_card_that_was_missed_is_looked_for_again():
    day, card = np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2])
    fraud, score = np.array([1, 0, 1, 0]), np.array([0.1, 0.9, 0.9, 0.1])
    assert card_precision(day, card, fraud, score, k=1) == 0.5


def test_a_card_counts_once_a_day_by_its_highest_score_and_any_of_its_frauds():
    """Cards 1 and 2 are the two best; card 1's fraud is the transaction with the low score."""
    day, card = np.zeros(4, int), np.array([1, 1, 2, 3])
    fraud, score = np.array([0, 1, 0, 1]), np.array([0.9, 0.1, 0.8, 0.7])
    assert card_precision(day, card, fraud, score, k=2) == 0.5


# --- the command


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    """Two simulated months, 2018-04 and 2018-05, in the Handbook's format."""
    folder = tmp_path_factory.mktemp("extract")
    for month in ("2018-04", "2018-05"):
        rows = simulate_month(month, SimulatorConfig(customers=400, terminals=800, seed=1))
        rows = rows.select(list(HANDBOOK_NAMES)).rename_columns(HANDBOOK_NAMES)
        rows = rows.set_column(1, "TX_DATETIME", rows["TX_DATETIME"].cast("timestamp[us]"))
        rows = rows.set_column(5, "TX_FRAUD", rows["TX_FRAUD"].cast("int8").cast("int64"))
        pyarrow.parquet.write_table(rows, folder / f"transactions_{month}.parquet")
    return folder


@pytest.fixture
def quick(monkeypatch):
    """The platform trains its fastest family only, from the few frauds that a small extract has in a week."""
    settings = {"families": ("logistic_regression",), "minimum_frauds": 5}
    monkeypatch.setattr(handbook, "TrainingConfig", partial(TrainingConfig, **settings))


def figures(file):
    return {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))}


def test_a_fraud_is_known_seven_days_after_its_transaction(extract, handbook_contract):
    data = load_cards(extract, handbook_contract)
    delays = np.subtract(data.statements["label_timestamp"].to_numpy(), data.statements["event_timestamp"].to_numpy())
    assert set(delays) == {np.timedelta64(7, "D")}
    assert len(delays) == data.fraud.sum() > 0


def test_weeks_of_ones_own_are_compared_with_the_published_model(quick, extract, tmp_path):
    file = tmp_path / "figures.json"
    weeks = [text for day in ("2018-05-07", "2018-05-11") for text in ("--train-start", day)]
    assert main(["--data", str(extract), *weeks, "--json", str(file)]) == 0
    rows = figures(file)
    ratio = rows["mean_ap"]["value"] / rows["published_xgboost_mean_ap"]["value"]
    assert rows["mean_ap_over_published_xgboost"]["value"] == ratio
    assert 0.1 < rows["mean_ap"]["value"] < 1


def test_without_weeks_every_target_is_judged_as_it_was_measured(quick, extract, tmp_path, monkeypatch):
    monkeypatch.setattr(handbook, "FOLDS", (dt.date(2018, 5, 7),))
    monkeypatch.setattr(handbook, "SINGLE", dt.date(2018, 5, 11))
    file = tmp_path / "figures.json"
    code = main(["--data", str(extract), "--json", str(file)])
    rows = figures(file)
    wanted = {
        "folds_mean_ap": 0.77, "single_ap": 0.772, "single_cp100": 0.30,
        "folds_7days_mean_ap": 0.75, "single_7days_roc_auc": 0.90,
    }  # fmt: skip
    assert {name: rows[name]["target"] for name in wanted} == wanted
    assert all(rows[name]["holds"] == (rows[name]["value"] >= target) for name, target in wanted.items())
    assert rows["published_forest_single_ap"]["target"] == 0.658
    assert code == any(row["holds"] is False for row in rows.values())


def test_weeks_that_the_data_does_not_have_are_refused(extract, capsys):
    with pytest.raises(SystemExit):
        main(["--data", str(extract), "--train-start", "2018-05-12"])
    assert "training from 2018-05-12 needs 21 days" in capsys.readouterr().err


def test_a_week_without_enough_frauds_is_refused_with_what_it_has(extract, monkeypatch, capsys):
    monkeypatch.setattr(handbook, "TrainingConfig", partial(TrainingConfig, minimum_frauds=10_000))
    with pytest.raises(SystemExit):
        main(["--data", str(extract), "--train-start", "2018-05-07"])
    assert "of 10000 frauds among" in capsys.readouterr().err


def test_a_folder_without_data_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path)])
    assert "there are no Parquet files" in capsys.readouterr().err
