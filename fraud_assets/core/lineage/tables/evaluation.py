"""Models judged: on a window of labelled transactions, by its parts, and beside the champion on live traffic."""

from __future__ import annotations

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.tables.table import TIMESTAMP, Described, Table, column, first_of_month, with_intervals

EVALUATION_INTERVALS = {
    "average_precision": "average precision; 0 to 1, by chance the prevalence",
    "roc_auc": "area under the ROC curve; 0 to 1, by chance 0.5",
    "precision_at_100": "share of frauds among the 100 highest scores of a day, mean over days; 0 to 1",
    "card_precision_at_100": "share of fraudulent cards among the 100 highest cards of a day, mean over days (CP@100); "
    "0 to 1",
    "recall_at_fpr_1pct": "share of frauds caught while at most 1 % of genuine transactions are flagged; 0 to 1",
    "alerts_per_day": "cards a day with a transaction at or above the threshold, on average",
    "precision_at_threshold": "share of the flagged transactions that are fraud; 0 to 1, empty when none is flagged",
    "recall_at_threshold": "share of the frauds that are flagged; 0 to 1",
    "value_detection_rate": "share of the fraud amount that is flagged; 0 to 1, empty without amounts",
    "expected_cost": "cost a day of reviews and of missed frauds, in the currency of the amounts",
    "cost_without_review": "cost a day if nobody were reviewed, in the currency of the amounts",
    "brier": "mean squared difference of score and label; 0 to 1, lower is better",
    "expected_over_observed": "sum of scores over frauds seen; 1 when calibrated, above 1 when scores are too high",
}

PAIR_DIFFERENCES = {
    "cost_difference": "cost a day with the same reviews (of the one that flags more, at most the capacity), less the "
    "champion's, "
    "in the currency of the amounts; below 0 when it is cheaper",
    "card_precision_difference": "share of fraudulent cards among these reviews, less the champion's; -1 to 1",
    "value_difference": "share of the fraud amount that these reviews find, less the champion's; -1 to 1, empty "
    "without amounts",
    "ap_difference": "average precision less the champion's; -1 to 1",
    "own_cost_difference": "cost a day of each at its own threshold, less the champion's, in the currency of the "
    "amounts",
}


def pair_columns() -> list[Described]:
    """How challenger and waiting compare with the champion on all windows since both were there."""
    ends = {"": "", "_low": "lower", "_high": "upper"}
    differences = [
        column(
            f"{name}{end}",
            pa.float64(),
            f"Of challenger and waiting: {meaning}."
            if not which
            else f"The {which} end of {name}'s interval at look_level.",
        )
        for name, meaning in PAIR_DIFFERENCES.items()
        for end, which in ends.items()
    ]
    return [
        column(
            "pair_from",
            TIMESTAMP,
            "Of challenger and waiting: begin of all windows on which it is compared with the champion.",
        ),
        column("pair_n", pa.int64(), "Transactions of these windows, each once."),
        column("pair_n_fraud", pa.int64(), "Frauds among them."),
        column("look", pa.int64(), "Which look at this model beside this champion it is, from 1."),
        column("look_level", pa.float64(), "Chance that this look finds an equal model better; 0 to 1."),
        column("reviews_per_day", pa.float64(), "Cards a day that each of the two has for review in the comparison."),
        column("deciding_cards", pa.int64(), "Cards with a fraud that one of them has reviewed and the other not."),
        column("parts_judged", pa.int64(), "Parts of the month's window on which the two could be compared."),
        *differences,
    ]


def evaluation(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month and role: champion, challenger and reference on the same window, or `none` and why."""
    columns = [
        first_of_month("at whose end the models were judged"),
        column(
            "role",
            pa.string(),
            "champion; challenger (the newest model); waiting (one that is looked at again); reference; or none where "
            "no model was judged.",
            nullable=False,
        ),
        column("model_version", pa.int64(), "Version in the MLflow registry."),
        column("family", pa.string(), "Kind of model, such as gradient_boosting or logistic_regression."),
        column("trained_month", pa.string(), "The month at whose end the model was trained, YYYY-MM."),
        column("as_of", TIMESTAMP, "The month's end, in UTC: labels are those that were known then.", nullable=False),
        column("window_from", TIMESTAMP, "Begin of the window of event times, in UTC."),
        column("window_to", TIMESTAMP, "End of the window, in UTC; not part of it."),
        column("n", pa.int64(), "Matured transactions of the window."),
        column("n_fraud", pa.int64(), "Frauds among them."),
        column("prevalence", pa.float64(), "n_fraud over n; 0 to 1."),
        column("threshold", pa.float64(), "The model's decision threshold; 0 to 1."),
        column("cards_per_day", pa.float64(), "Cards a day with a transaction, on average."),
        *with_intervals(EVALUATION_INTERVALS),
        *pair_columns(),
        # Why no model could be judged, in the one row of such a month; or why the window is not enough yet.
        column("reason", pa.string(), "Why no model was judged, or why the window is not enough yet; else empty."),
    ]
    return Table.of("evaluation", "models", columns, "month", order=("month", "role"))


def evaluation_segments(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month, role and part of the window: a merchant segment, a band of amounts, new customers."""
    columns = [
        first_of_month("at whose end the models were judged"),
        column("role", pa.string(), "champion, challenger or waiting.", nullable=False),
        column("model_version", pa.int64(), "Version in the MLflow registry.", nullable=False),
        column(
            "segment", pa.string(), "What the window is parted by: an attribute, amounts, weekends.", nullable=False
        ),
        column("value", pa.string(), "The part, such as travel; rare values together are (other).", nullable=False),
        column("value_range", pa.string(), "For bands of a number, the numbers in them."),
        column("n", pa.int64(), "Matured transactions of the part.", nullable=False),
        column("n_fraud", pa.int64(), "Frauds among them.", nullable=False),
        column("prevalence", pa.float64(), "n_fraud over n; 0 to 1.", nullable=False),
        *with_intervals({"average_precision": "average precision in the part; 0 to 1, empty with too few frauds"}),
        column("reason", pa.string(), "Why there is no average precision; else empty."),
        column("n_flagged", pa.int64(), "Transactions at or above the model's threshold.", nullable=False),
        *(
            column(name, pa.float64(), f"{EVALUATION_INTERVALS[name][0].upper()}{EVALUATION_INTERVALS[name][1:]}.")
            for name in ("precision_at_threshold", "recall_at_threshold", "expected_over_observed")
        ),
        *with_intervals(
            {
                "caught_difference": "of challenger and waiting: share of the part's losses that it has reviewed, less "
                "the champion's, with the same reviews of the whole window; -1 to 1, its interval for all parts at once"
            }
        ),
    ]
    order = ("month", "role", "segment", "value")
    return Table.of("evaluation_segments", "models", columns, "month", order=order, key=order)


def challenger_comparison(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month and challenger: beside the champion, on the live traffic that both scored; see `pairs.py`."""
    left_out = ("pair_from", "parts_judged")
    paired = [(one, said) for one, said in pair_columns() if one.name not in left_out]
    columns = [
        first_of_month("at whose end they were compared"),
        column(
            "champion_version", pa.int64(), "The version that was live before the month's decision.", nullable=False
        ),
        column("challenger_version", pa.int64(), "The version beside it.", nullable=False),
        column("window_from", TIMESTAMP, "Begin of the window of event times, in UTC.", nullable=False),
        column("window_to", TIMESTAMP, "End of the window, in UTC; all of it has matured.", nullable=False),
        column("n_answered", pa.int64(), "Transactions of the window that one of them answered.", nullable=False),
        column("n_by_challenger", pa.int64(), "Of these, by the challenger.", nullable=False),
        column("n_failed", pa.int64(), "Of these, where the other one gave no score.", nullable=False),
        column("n_late", pa.int64(), "Of these, where the other one took too long.", nullable=False),
        column("n_both", pa.int64(), "Of these, scored by both.", nullable=False),
        *paired,
        column("reason", pa.string(), "Why they could not be compared; else empty."),
        column("sentence", pa.string(), "What came of it, for people.", nullable=False),
    ]
    order = ("month", "champion_version", "challenger_version")
    return Table.of("challenger_comparison", "monitoring", columns, "month", order=order, key=order)
