"""Any file with a contract, out of time: the platform beside plain models on the same rows and raw columns.

Every model learns from what was known when the first test day began and is judged on the rows from then on. The
platform's rows go its own way: contract, intake, features, labels by the contract's delay, training with its defaults.
Targets that depend on one data set do not belong here.

    python -m benchmarks.tabular [--data FILE] [--contract FILE] [--test-from DATE] [--json FILE]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.reporting import Row, argument_parser, at_least, report
from fraud_assets.adapters.files.reader import SourceError, open_rows
from fraud_assets.core.contracts.contract import TIMESTAMP, Contract, ContractError, load_contract
from fraud_assets.core.features.declarations import forced_texts, model_columns
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.intake.accept import Delivery, IntakeError, Part, accept
from fraud_assets.core.intake.conversions import event_times
from fraud_assets.core.intake.rows import Piece
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models.scoring import model_matrix
from fraud_assets.core.models.training import TrainingConfig, TrainingError, train
from fraud_assets.core.statistics.bootstrap import Interval, identifier_codes
from fraud_assets.core.statistics.metrics import average_precision, paired_ap_difference, roc_auc
from fraud_assets.settings import PROJECT_ROOT

REGISTRATIONS = PROJECT_ROOT.parent / "shared" / "data" / "registrations" / "registrations.csv"
CONTRACT = PROJECT_ROOT / "contracts" / "registrations.yaml"
TEST_FROM = date(2023, 1, 1)
# Plain models take values of fewer training rows than this for one and the same, and so those that training never saw:
# on the registrations of 2022 a line at 3 gave the logistic regression .002 more of AP, 1, 5 and 10 gave it less.
RARE = 2
CATEGORIES = 254  # scikit-learn's boosting splits columns of up to 255 values, one of which is a missing one
COLUMNS = 10_000  # of one-hot encoding, for each raw column
OTHERS = "(others)"

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Rows as the contract accepts them, ordered by time and id.

    Attributes:
        transactions, statements: as the platform has them.
        n_left_out: rows of the file that break the contract, or lie in none of its months.
    """

    transactions: pa.Table
    statements: pa.Table
    n_left_out: int


@dataclass(frozen=True)
class Split:
    """What both sides of a start of testing know.

    Attributes:
        start: the first instant of testing.
        training, test: positions of the rows; those of training had matured at `start`.
        learned: whether each training row was fraud, as known at `start`.
        truth: whether each test row is, by every label in the file.
    """

    start: datetime
    training: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    learned: Bools
    truth: Bools


class ProtocolError(ValueError):
    """Data on which the protocol cannot be run; the message says why."""


# --- The protocol -------------------------------------------------------------------------------------------


def read_rows(data: Path, contract: Contract) -> Rows:
    """Takes a file in as the platform would, month by month.

    Args:
        data: a Parquet file (`.parquet`) or else a CSV, with all months.
        contract: with a label column.

    Raises:
        ProtocolError: when the labels are elsewhere, or no row lies in a month of the contract.
        SourceError, ContractError, IntakeError: as the platform's own intake.
    """
    if contract.label.column is None:
        raise ProtocolError(
            f"contract {contract.name!r} has its labels in a feed of their own; the benchmark reads one file, so give "
            "a contract with label.column"
        )
    delivery = Delivery([Part(data.name, open_rows(data, contract).pieces)], whole=True)
    transactions, statements = [contract.transactions_schema().empty_table()], [contract.labels_schema().empty_table()]
    earlier = pa.table(
        {"transaction_id": pa.array([], contract.transaction_id_type), "month": pa.array([], pa.string())}
    )
    months, n = _months(delivery, contract)
    for month in months:
        with accept(delivery, contract, month, earlier=earlier) as intake:
            transactions.append(intake.transactions().read_all())
            statements.append(intake.statements)
        ids = transactions[-1].select(["transaction_id"])
        ids = ids.append_column("month", pa.array([month] * len(ids)))
        earlier = pa.concat_tables([earlier, ids.cast(earlier.schema)])
    rows = pa.concat_tables(transactions)
    return Rows(rows, pa.concat_tables(statements), n - rows.num_rows)


def _months(delivery: Delivery, contract: Contract) -> tuple[list[str], int]:
    """The months in which a delivery has rows, as far as the contract has them, and how many rows it has in all."""
    found, n = set[int](), 0
    for given in delivery.parts[0].open():
        batch = given.rows if isinstance(given, Piece) else given
        n += given.n_counted if isinstance(given, Piece) else given.num_rows
        if contract.event_timestamp.columns[0] not in batch.schema.names:
            return [contract.first_month], n  # whose intake says what is missing
        local = pc.drop_null(event_times(batch, contract)).cast(pa.timestamp("us", contract.timezone))
        found |= set(pc.unique(pc.add(pc.multiply(pc.year(local), 12), pc.subtract(pc.month(local), 1))).to_pylist())
    months = [f"{number // 12:04}-{number % 12 + 1:02}" for number in sorted(found)]
    last = contract.last_month or max(months, default="")
    inside = [month for month in months if contract.first_month <= month <= last]
    if not inside:
        raise ProtocolError(
            f"no row lies in the months of contract {contract.name!r}, {contract.first_month} to {last or 'now'}; "
            f"those of the file are {', '.join(months[:12]) or 'none'}: correct first_month and last_month"
        )
    return inside, n


def split(rows: Rows, contract: Contract, test_from: date) -> Split:
    """Cuts rows into those that training knew and those that are tested.

    Raises:
        ProtocolError: when the date lies outside the data, or a part has only frauds or only genuine rows.
    """
    moments = rows.transactions["event_timestamp"].cast(TIMESTAMP)
    first, last = pc.min_max(moments).as_py().values()
    start = datetime.combine(test_from, clock(), contract.zone)
    if not first < start <= last:
        raise ProtocolError(
            f"testing from {test_from} leaves nothing on one side; the data has "
            f"{first.astimezone(contract.zone):%Y-%m-%d} to {last.astimezone(contract.zone):%Y-%m-%d}, so give a date "
            "in between with --test-from"
        )
    as_known = labels_as_of(
        rows.transactions, rows.statements, start, maturity_days=contract.maturity_days, blank=contract.label.blank
    )
    before = pc.less(moments, pa.scalar(start, TIMESTAMP)).to_numpy()
    training = np.flatnonzero(before & as_known["is_matured"].to_numpy())
    # The file is all there will be: at the end of its labels, everything has matured.
    known = pc.max(rows.statements["label_timestamp"]).as_py() or last
    end = max(known, last + timedelta(days=contract.maturity_days))
    final = labels_as_of(
        rows.transactions, rows.statements, end, maturity_days=contract.maturity_days, blank=contract.label.blank
    )
    # What nobody looked into cannot be judged on.
    test = np.flatnonzero(~before & pc.is_valid(final["is_fraud"]).to_numpy())
    learned, truth = (
        labels["is_fraud"].to_numpy()[part].astype(bool) for labels, part in ((as_known, training), (final, test))
    )
    for name, y in ((f"before {test_from} whose labels were known by then", learned), (f"from {test_from} on", truth)):
        if y.all() or not y.any():
            raise ProtocolError(
                f"the {len(y):,} rows {name} have {y.sum():,} frauds and {(~y).sum():,} genuine ones, and both are "
                "needed; give another date with --test-from"
            )
    return Split(start, training, test, learned, truth)


# --- The models ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """What the platform made of the rows.

    Attributes:
        score: of each test row, 0 to 1.
        family: of the model that training chose.
        n_features: that it was given.
    """

    score: Floats
    family: str
    n_features: int


def platform_scores(rows: Rows, contract: Contract, cut: Split) -> Scored:
    """The platform's features with the model that its training chooses by validation before the test.

    Features of a test row count the labels that were known when it happened, as in the service.

    Raises:
        TrainingError: when there are too few frauds to train.
    """
    first, last = pc.min_max(rows.transactions["event_timestamp"]).as_py().values()
    end = last + timedelta(microseconds=1)
    features = compute_features(rows.transactions, rows.statements, contract, start=first, end=end)
    names = model_columns(contract)
    before = features.filter(pc.less(features["event_timestamp"], pa.scalar(cut.start, TIMESTAMP)))
    labels = labels_as_of(
        before, rows.statements, cut.start, maturity_days=contract.maturity_days, blank=contract.label.blank
    )
    result = train(
        before, labels, names, maturity_days=contract.maturity_days, config=TrainingConfig(), card=contract.card,
        forced=forced_texts(contract),
    )  # fmt: skip
    X = model_matrix(features.take(pa.array(cut.test)), result.encoder)
    score = np.asarray(result.chosen.estimator.predict_proba(X)[:, 1])
    return Scored(score, result.chosen.family, len(result.encoder.inputs))


@dataclass(frozen=True)
class Raw:
    """The contract's columns as plain models take them, of all rows.

    Attributes:
        categories: identifiers, text and booleans, as text.
        numbers: the amount and numeric attributes that any training row has, float64 with null where missing; dates as
            days since 1970.
        clock: hour and weekday, for the time, whose own value no later row has.
    """

    categories: pa.Table
    numbers: pa.Table
    clock: pa.Table


def raw_columns(rows: Rows, contract: Contract, training: npt.NDArray[np.int64]) -> Raw:
    """The columns, each once: not those that are a part of another (`extract`)."""
    given = rows.transactions
    whole = {name: one for name, one in contract.columns.items() if one.extract is None or one.type == "number"}
    numbers = [
        name
        for name, column in whole.items()
        if name not in contract.entities and column.type in ("integer", "number", "date")
    ]
    local = given["event_timestamp"].cast(pa.timestamp("us", contract.timezone))
    at = pa.array(training)
    return Raw(
        categories=pa.table(
            {name: pc.fill_null(given[name].cast(pa.string()), "") for name in whole if name not in numbers}
        ),
        # scikit-learn 1.9 fails on a column without a single value.
        numbers=pa.table(
            {name: _as_number(given[name]) for name in numbers if pc.any(pc.is_valid(given[name].take(at))).as_py()}
        ),
        clock=pa.table({"hour": pc.hour(local), "weekday": pc.day_of_week(local)}),
    )


def _as_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return (column.cast(pa.int32()) if pa.types.is_date(column.type) else column).cast(pa.float64())


def common_values(column: pa.ChunkedArray, training: npt.NDArray[np.int64], most: int) -> pa.ChunkedArray:
    """The text of a column, in which rare values are all the same one.

    Args:
        column: text, of all rows.
        training: positions of the training rows, which alone say what is rare: what fewer than `RARE` of them have,
            and what is not among the `most` most frequent. So is what they never had.
        most: how many values may be left.
    """
    counts = pa.table({"value": column}).take(pa.array(training)).group_by("value").aggregate([([], "count_all")])
    counts = counts.filter(pc.greater_equal(counts["count_all"], RARE))
    kept = counts.sort_by([("count_all", "descending"), ("value", "ascending")])["value"][: most - 1]
    return pc.if_else(pc.is_in(column, kept.combine_chunks()), column, OTHERS)


def logistic_scores(raw: Raw, cut: Split) -> Floats:
    """A logistic regression: categories, hour and weekday one-hot, numbers standardised, missing ones the median."""
    coded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), [*raw.categories.column_names, *raw.clock.column_names]),
        (
            make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()),
            raw.numbers.column_names,
        ),
    )
    return _fitted_scores(make_pipeline(coded, LogisticRegression(max_iter=2000)), raw, COLUMNS, cut)


def boosting_scores(raw: Raw, cut: Split) -> Floats:
    """scikit-learn's histogram gradient boosting with its defaults and its own splits of categories and gaps."""
    categories = raw.categories.column_names
    coded = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), categories),
        ("passthrough", [*raw.numbers.column_names, *raw.clock.column_names]),
    )
    trees = HistGradientBoostingClassifier(categorical_features=list(range(len(categories))), random_state=0)
    return _fitted_scores(make_pipeline(coded, trees), raw, CATEGORIES, cut)


def _fitted_scores(model: Any, raw: Raw, most: int, cut: Split) -> Floats:
    columns = {name: common_values(raw.categories[name], cut.training, most) for name in raw.categories.column_names}
    for table in (raw.numbers, raw.clock):
        columns |= {name: table[name] for name in table.column_names}
    frame = pa.table(columns).to_pandas()
    # One thread, as each fit of the platform has.
    with threadpool_limits(1):
        model.fit(frame.iloc[cut.training], cut.learned)
        return np.asarray(model.predict_proba(frame.iloc[cut.test])[:, 1])


# --- The table ----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("Any file with a contract, out of time: the platform beside plain models.")
    parser.add_argument("--data", type=Path, default=REGISTRATIONS, help="a CSV or Parquet file with all months")
    parser.add_argument("--contract", type=Path, default=CONTRACT, help="what its columns mean")
    parser.add_argument(
        "--test-from", type=date.fromisoformat, default=TEST_FROM, metavar="DATE", help="first day of the test"
    )
    options = parser.parse_args(arguments)
    for file, option in ((options.data, "--data"), (options.contract, "--contract")):
        if not file.is_file():
            parser.error(f"there is no file {file}; name one with {option}")
    try:
        return _run(options)
    except (ProtocolError, ContractError, IntakeError, SourceError, TrainingError) as error:
        parser.error(str(error))


def _run(options: argparse.Namespace) -> int:
    contract = load_contract(options.contract)
    rows = read_rows(options.data, contract)
    cut = split(rows, contract, options.test_from)
    started = time.monotonic()
    ours = platform_scores(rows, contract, cut)
    seconds = time.monotonic() - started
    raw = raw_columns(rows, contract, cut.training)
    scores = {"logistic": logistic_scores(raw, cut), "boosting": boosting_scores(raw, cut)}
    ap, boosting = (average_precision(cut.truth, score) for score in (ours.score, scores["boosting"]))
    difference = ap_difference(rows, contract, cut, scores["boosting"], ours.score)
    is_default = (options.data, options.contract, options.test_from) == (REGISTRATIONS, CONTRACT, TEST_FROM)
    over = ap / boosting
    figures = [
        Row("left_out", float(rows.n_left_out), "rows"),
        *_size("training", cut.learned),
        *_size("test", cut.truth),
        Row("features", float(ours.n_features), ""),
        Row("seconds", seconds, "s"),
        Row("family", ours.family, ""),
        *(row for name, score in scores.items() for row in _reached(f"{name}_", cut.truth, score)),
        *_reached("", cut.truth, ours.score),
        # What others bring along has no target.
        at_least("ap_over_boosting", over, "times", 1.0) if is_default else Row("ap_over_boosting", over, "times"),
        Row("ap_over_logistic", ap / average_precision(cut.truth, scores["logistic"]), "times"),
        Row("ap_minus_boosting", difference.value, ""),
    ]
    if difference.is_known:
        figures += [Row(f"ap_minus_boosting_{end}", getattr(difference, end), "") for end in ("low", "high")]
    return report("registrations" if is_default else f"tabular_{contract.name}", figures, options.json)


def ap_difference(rows: Rows, contract: Contract, cut: Split, theirs: Floats, ours: Floats) -> Interval:
    """Our AP less theirs with its 95 % interval: the widest of those that draw the values of one entity, or rows."""
    tested = rows.transactions.take(pa.array(cut.test))
    intervals = [
        paired_ap_difference(cut.truth, theirs, ours, None if entity is None else identifier_codes(tested[entity]))
        for entity in contract.entities or [None]
    ]
    return max(intervals, key=lambda interval: interval.high - interval.low if interval.is_known else math.inf)


def _size(part: str, y: Bools) -> list[Row]:
    return [
        Row(f"{part}_n", float(len(y)), "rows"),
        Row(f"{part}_n_fraud", float(y.sum()), "rows"),
        Row(f"{part}_prevalence", float(y.mean()), ""),
    ]


def _reached(prefix: str, y: Bools, score: Floats) -> list[Row]:
    return [Row(f"{prefix}roc_auc", roc_auc(y, score), ""), Row(f"{prefix}ap", average_precision(y, score), "")]


if __name__ == "__main__":
    raise SystemExit(main())
