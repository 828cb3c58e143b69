"""The out-of-time protocol on any file: what is known when, what plain models are given, and the whole command."""

import datetime as dt
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import tabular
from benchmarks.tabular import (
    REGISTRATIONS,
    ProtocolError,
    boosting_scores,
    common_values,
    logistic_scores,
    main,
    platform_scores,
    raw_columns,
    read_rows,
    split,
)
from fraud_assets.core.contracts.contract import load_contract, parse_contract
from fraud_assets.core.models.training import TrainingConfig
from fraud_assets.settings import PROJECT_ROOT

CONTRACT = """
name: shops
first_month: 2024-01
event_timestamp: {column: at}
entities:
  shop: {column: shop, type: integer}
  visitor: {column: mail, nullable: true}
  domain: {column: mail, nullable: true, extract: "@(.*)$"}
amount: {column: paid, type: number, nullable: true}
attributes:
  channel: {column: channel, categories: [web, app]}
  member: {column: member, type: boolean}
  age: {column: age, type: integer, nullable: true, feature: true}
  nothing: {column: nothing, type: number, nullable: true, feature: true}
label: {column: fraud, delay_days: 10}
maturity_days: 10
"""
HEADER = "at,shop,mail,paid,channel,member,age,nothing,fraud"
DAYS, A_DAY = 120, 10
START = dt.date(2024, 4, 20)  # the 111th day: the test is over before a label of it is known


def at(day, hour=12):
    return dt.datetime(2024, 1, 1, hour, tzinfo=dt.UTC) + dt.timedelta(days=day)


def lines(frauds=(), days=range(DAYS)):
    """Ten rows a day, each at its own hour and shop; every third has neither a mail, nor an amount, nor an age."""
    generator = np.random.default_rng(0)
    result = []
    for day in days:
        for n in range(A_DAY):
            mail, paid, age = (
                (f"v{generator.integers(40)}@{'ab'[n % 2]}", generator.integers(1, 99), n) if n % 3 else ("", "", "")
            )
            fraud = int((day, n) in frauds)
            channel, member = ("web", "app")[n % 2], ("yes", "no")[n % 4 > 1]
            result.append(f"{at(day, n):%Y-%m-%dT%H:%M:%S},{n},{mail},{paid},{channel},{member},{age},,{fraud}")
    return result


# Shop 3 is bad on even days, shop 5 from the middle of March on, and there is some fraud everywhere.
FRAUDS = {(day, 3) for day in range(0, DAYS, 2)} | {(day, 5) for day in range(75, DAYS)}
FRAUDS |= {(day, day % A_DAY) for day in range(DAYS)}


@pytest.fixture
def written(tmp_path):
    """Writes rows, and a contract beside them."""

    def write(rows, header=HEADER, contract=CONTRACT):
        file, described = tmp_path / "shops.csv", tmp_path / "shops.yaml"
        file.write_text("\n".join([header, *rows]), encoding="utf-8")
        described.write_text(contract, encoding="utf-8")
        return file, described

    return write


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The platform trains its fastest family only, from a few frauds."""
    settings = {"families": ("logistic_regression",), "minimum_frauds": 5}
    monkeypatch.setattr(tabular, "TrainingConfig", partial(TrainingConfig, **settings))


@pytest.fixture
def shops():
    return parse_contract(CONTRACT)


def taken(written, contract, frauds):
    rows = read_rows(written(lines(frauds))[0], contract)
    return rows, split(rows, contract, START)


# --- what is known when


@pytest.mark.parametrize(
    ("maturity", "learned"),
    [
        # Seven days before the test is too late to have matured, ten days before it is not.
        (10, {0: True, 20: False, 99: True, 100: True}),
        # Without a report after three days a row counts as genuine; what is reported after ten is not known yet.
        (3, {0: True, 20: False, 99: True, 100: True, 103: False, 106: False}),
    ],
)
def test_training_learns_what_was_known_when_the_test_began(written, maturity, learned):
    contract = parse_contract(CONTRACT.replace("maturity_days: 10", f"maturity_days: {maturity}"))
    days = (0, 20, 99, 100, 103, 106, 110, 111)
    rows = read_rows(written(lines({(day, 0) for day in days if day != 20}, days))[0], contract)
    cut = split(rows, contract, START)
    seen = rows.transactions["event_timestamp"].to_pylist()
    first_rows = {
        (seen[row] - at(0, 0)).days: bool(fraud)
        for row, fraud in zip(cut.training, cut.learned, strict=True)
        if seen[row].hour == 0
    }
    assert first_rows == learned
    assert [(seen[row] - at(0, 0)).days for row in cut.test] == [110] * A_DAY + [111] * A_DAY
    assert cut.truth.sum() == 2


def test_a_day_begins_in_the_zone_of_the_contract(written):
    contract = parse_contract(CONTRACT + "timezone: Asia/Tokyo")
    rows = ["2024-04-19T14:59:59Z,1,,,web,yes,,,0", "2024-04-19T15:00:00Z,1,,,web,yes,,,0"]
    cut_rows = read_rows(written([*lines({(0, 0)}, [0]), *rows, *lines({(119, 0)}, [119])])[0], contract)
    cut = split(cut_rows, contract, START)
    assert cut_rows.transactions["event_timestamp"][int(cut.test[0])].as_py() == dt.datetime(
        2024, 4, 19, 15, tzinfo=dt.UTC
    )


def test_no_label_of_a_test_row_changes_a_score_before_it_is_known(written, shops):
    """All labels of the test are known after its end: turned round, they change nothing."""
    rows, cut = taken(written, shops, FRAUDS)
    turned = FRAUDS ^ {(day, n) for day in range(110, DAYS) for n in range(A_DAY)}
    other_rows, other = taken(written, shops, turned)
    assert (cut.truth != other.truth).all()
    assert platform_scores(rows, shops, cut).score.tolist() == platform_scores(other_rows, shops, other).score.tolist()
    for model in (logistic_scores, boosting_scores):
        first, second = (model(raw_columns(r, shops, c.training), c) for r, c in ((rows, cut), (other_rows, other)))
        assert first.tolist() == second.tolist()


def test_a_label_counts_in_scores_from_when_it_is_known_and_is_not_learned(written, shops):
    """A fraud in shop 7 on 13 April, known on the 23rd: from then on its shop's scores change, and no other."""
    without = FRAUDS - {(103, 7)}
    rows, cut = taken(written, shops, without)
    other_rows, other = taken(written, shops, without | {(103, 7)})
    assert cut.learned.tolist() == other.learned.tolist()
    changed = platform_scores(rows, shops, cut).score != platform_scores(other_rows, shops, other).score
    seen = [
        rows.transactions[name].take(pa.array(cut.test)).to_pylist() for name in ("event_timestamp", "shop", "visitor")
    ]
    visitors = {
        visitor
        for moment, shop, visitor in zip(
            *(rows.transactions[name].to_pylist() for name in ("event_timestamp", "shop", "visitor")), strict=True
        )
        if (moment, shop) == (at(103, 7), 7)
    }
    touched = [
        moment > at(113, 7) and (shop == 7 or visitor in visitors or (visitor or "").endswith("@b"))
        for moment, shop, visitor in zip(*seen, strict=True)
    ]
    assert changed.any()
    assert not (changed & ~np.array(touched)).any()


# --- what plain models are given


def test_values_of_one_training_row_and_those_beyond_the_most_frequent_are_one():
    column = pa.chunked_array([["a", "a", "a", "b", "b", "c", "c", "d", "e", "b"]])
    training = np.arange(8)
    assert common_values(column, training, 4).to_pylist() == [*"aaabbcc", "(others)", "(others)", "b"]
    # Of equally frequent ones, the first in the alphabet stays.
    assert common_values(column, training, 3).to_pylist() == [*"aaabb", *["(others)"] * 4, "b"]


def test_raw_columns_are_the_contracts_own_each_once(written, shops):
    """Without the domain, which is a part of the mail, and without what no row has; 1 January 2024 was a Monday."""
    rows = read_rows(written(lines(FRAUDS, range(2)))[0], shops)
    raw = raw_columns(rows, shops, np.arange(10))
    assert raw.categories.slice(0, 2).to_pylist() == [
        {"shop": "0", "visitor": "", "channel": "web", "member": "true"},
        {"shop": "1", "visitor": "v34@b", "channel": "app", "member": "true"},
    ]
    assert raw.numbers.slice(0, 2).to_pylist() == [{"amount": None, "age": None}, {"amount": 63.0, "age": 1.0}]
    assert raw.clock.slice(9, 2).to_pylist() == [{"hour": 9, "weekday": 0}, {"hour": 0, "weekday": 1}]


# --- the command


def figures(file):
    return {row["name"]: row["value"] for row in json.loads(file.read_text(encoding="utf-8"))}


def run(file, contract, out, test_from=START):
    return main(["--data", str(file), "--contract", str(contract), "--test-from", str(test_from), "--json", str(out)])


def test_a_file_with_a_contract_gives_every_figure(written, tmp_path):
    """Ten rows for each of 100 days that had matured and for each of 10 test days; one row without a time is left out.

    The row of the 101st day's midnight has matured to the second when the test begins.
    """
    file, contract = written([*lines(FRAUDS), "soon,1,,,web,yes,,,0"])
    assert run(file, contract, tmp_path / "figures.json") == 0
    rows = figures(tmp_path / "figures.json")
    assert (rows["left_out"], rows["training_n"], rows["test_n"]) == (1, 1001, 100)
    n_fraud = len({fraud for fraud in FRAUDS if fraud[0] >= 110})
    assert (rows["test_n_fraud"], rows["test_prevalence"]) == (n_fraud, n_fraud / 100)
    assert rows["ap_over_boosting"] == rows["ap"] / rows["boosting_ap"]
    assert rows["ap_minus_boosting"] == pytest.approx(rows["ap"] - rows["boosting_ap"])
    assert rows["ap_minus_boosting_low"] < rows["ap_minus_boosting"] < rows["ap_minus_boosting_high"]
    assert 0.5 < rows["roc_auc"] <= 1
    assert rows["family"] == "logistic_regression"


def test_a_file_without_entities_and_with_ids_of_its_own_runs(written, tmp_path):
    """An id that was there in an earlier month is left out, as the platform does."""
    rows = [f"T{number},{line}" for number, line in enumerate(lines(FRAUDS))]
    rows[-1] = f"T0,{rows[-1].split(',', 1)[1]}"
    text = """
name: flat
first_month: 2024-01
transaction_id: {column: id}
event_timestamp: {column: at}
attributes: {age: {column: age, type: number, nullable: true, feature: true}}
label: {column: fraud, delay_days: 10}
maturity_days: 10
"""
    assert run(*written(rows, f"id,{HEADER}", text), tmp_path / "figures.json") == 0
    found = figures(tmp_path / "figures.json")
    assert (found["left_out"], found["features"]) == (1, 3)


def test_a_parquet_file_gives_what_the_same_csv_gives(written, shops, tmp_path):
    file, _ = written(lines(FRAUDS, range(40)))
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(file), tmp_path / "shops.parquet")
    of_csv, of_parquet = read_rows(file, shops), read_rows(tmp_path / "shops.parquet", shops)
    names = of_csv.transactions.column_names[1:]  # ids are made of the file's name
    assert of_parquet.transactions.select(names).equals(of_csv.transactions.select(names))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"--data": "absent.csv"}, "there is no file absent.csv; name one with --data"),
        ({"--contract": "absent.yaml"}, "there is no file absent.yaml; name one with --contract"),
        ({"--test-from": "soon"}, "argument --test-from"),
        ({"--test-from": "2024-01-01"}, "the data has 2024-01-01 to 2024-04-29"),
        ({"--test-from": "2024-04-30"}, "give a date in between"),
        # Rows of the first ten days, and of one midnight more, had matured.
        ({"--test-from": "2024-01-21"}, "the 101 rows before 2024-01-21 whose labels were known by then have 0 frauds"),
    ],
)
def test_options_that_cannot_be_are_refused_with_the_remedy(written, options, problem, capsys):
    file, contract = written(lines({fraud for fraud in FRAUDS if fraud[0] > 10}))
    given = {"--data": str(file), "--contract": str(contract), "--test-from": str(START)} | options
    with pytest.raises(SystemExit) as exit_:
        main([part for option in given.items() for part in option])
    assert exit_.value.code == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("column: shop,", "column: shops,", "lacks 'shops' (for shop)"),
        ("column: at}", "column: when}", "lacks 'when' (for event_timestamp)"),
        ("first_month: 2024-01", "first_month: 2025-01", "those of the file are 2024-01, 2024-02, 2024-03, 2024-04"),
        ("[web, app]", "[web]", "more than its quarantine_limit"),
        ("name: shops", "name: Shops", "is not a valid contract: name"),
        (
            "label: {column: fraud, delay_days: 10}",
            "transaction_id: {column: shop}\nlabel: {feed: {file_pattern: 'labels_{month}.csv', transaction_id: a, "
            "is_fraud: b, label_timestamp: c}}\nfile_pattern: 'x_{month}.csv'",
            "has its labels in a feed of their own",
        ),
    ],
)
def test_a_contract_that_does_not_fit_is_refused_with_what_is_wrong(written, old, new, problem, capsys):
    file, contract = written(lines(FRAUDS), contract=CONTRACT.replace(old, new))
    with pytest.raises(SystemExit):
        run(file, contract, file.with_suffix(".json"))
    assert problem in " ".join(capsys.readouterr().err.split())


def test_too_few_frauds_to_train_are_refused_with_how_many_there_are(written, monkeypatch, capsys):
    monkeypatch.setattr(tabular, "TrainingConfig", partial(TrainingConfig, minimum_frauds=10_000))
    file, contract = written(lines(FRAUDS))
    with pytest.raises(SystemExit):
        run(file, contract, file.with_suffix(".json"))
    assert "of 10000 frauds among" in capsys.readouterr().err


def test_a_part_with_frauds_alone_is_refused(written, shops):
    rows = read_rows(written(lines({(day, n) for day in range(110, DAYS) for n in range(A_DAY)} | {(1, 1)}))[0], shops)
    with pytest.raises(ProtocolError, match="the 100 rows from 2024-04-20 on have 100 frauds and 0 genuine ones"):
        split(rows, shops, START)


@pytest.mark.skipif(not REGISTRATIONS.is_file(), reason=f"{REGISTRATIONS} IS ABSENT: the published registrations")
def test_the_published_registrations_all_keep_their_contract():
    contract = load_contract(PROJECT_ROOT / "contracts" / "registrations.yaml")
    rows = read_rows(REGISTRATIONS, contract)
    assert (rows.transactions.num_rows, rows.statements.num_rows, rows.n_left_out) == (20_000, 1_004, 0)
