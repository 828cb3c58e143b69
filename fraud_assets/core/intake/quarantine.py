"""What is kept of a quarantined row, what to do about it, and when so much is quarantined that all is refused.

The same judgement for a month of transactions and for a file of labels, over all rows and over those that say fraud: a
fault that hits only frauds hides among thousands of good rows, and leaves a month without fraud.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.words import percent

# So seldom would rows that are quarantined by chance be so many of the frauds.
BY_CHANCE = 0.01
# Of a refusal: from here on, it shows values of rows, which may be a person's data.
FIRST_ROWS = ". First rows, in this order: "

# A quarantined row as intake leaves it; the table adds the month.
QUARANTINED = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("row_number", pa.int64(), nullable=False),
        pa.field("reasons", pa.string(), nullable=False),
        pa.field("original", pa.string(), nullable=False),
        pa.field("row_digest", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
    ]
)

# What to correct. Rules that a person may waive have nothing: a released row is stored all the same.
REMEDIES = {
    Rule.OUTSIDE_MONTH: "correct its time, or deliver it with the month it belongs to",
    Rule.OUTSIDE_CONTRACT: "correct its time, or deliver it with the month it belongs to",
    Rule.NO_SUCH_TIME: "correct its time",
    Rule.AMBIGUOUS_TIME: "correct its time",
    Rule.REPEATED_ID: "give it a transaction_id of its own, or leave one of the two out",
    Rule.ID_OF_EARLIER_MONTH: "give it a transaction_id of its own, or leave one of the two out",
    Rule.LABEL_BEFORE_TRANSACTION: "correct the time of the label",
    Rule.LABEL_TIME_MISSING: "fill in the time of the label",
    Rule.MISSING_VALUE: "fill in what is missing, or say nullable: true in the contract",
    Rule.UNREADABLE_VALUE: "correct what cannot be read",
    Rule.UNKNOWN_LABEL: "correct what cannot be read",
    Rule.NOT_A_ROW: "correct what cannot be read",
}


def remedy_of(reasons: Iterable[Reason]) -> str:
    """What to correct in a row that cannot be stored, by the rules that it breaks; the same thing once.

    >>> remedy_of([Reason(Rule.LABEL_BEFORE_TRANSACTION, "however it is said", "label_timestamp")])
    'correct the time of the label'
    """
    found = dict.fromkeys(REMEDIES[one.rule] for one in reasons if one.rule in REMEDIES)
    return " and ".join(found) or "correct what breaks the contract"


@dataclass(frozen=True)
class Quarantined:
    """How much of a delivery is quarantined.

    Attributes:
        n: rows read; lines that are no rows count.
        n_quarantined: of them, in quarantine; what a person dropped does not count.
        n_fraud: rows read whose label says fraud, or is a word that the contract does not know and may.
        n_fraud_quarantined: of those, in quarantine.
    """

    n: int
    n_quarantined: int
    n_fraud: int = 0
    n_fraud_quarantined: int = 0

    def refusal(self, limit: float) -> str | None:
        """Why the delivery is refused, as a part of a sentence; None where it is not.

        Of all rows, more than the limit are too many. Of the rows that say fraud, more than the limit are too many
        where so many would be quarantined by chance in less than one of a hundred deliveries, if each row had the
        limit's chance: of one to three frauds one may be lost, and of two not both (limit 5 %).

        >>> Quarantined(1000, 12, 12, 12).refusal(0.05)
        '12 of 12 rows that say fraud (100.0 %) cannot be used, more than quarantine_limit 5.0 %'
        >>> Quarantined(1000, 1, 12, 1).refusal(0.05), Quarantined(1000, 1, 1, 1).refusal(0.05)
        (None, None)
        """
        if self.n_quarantined > limit * self.n:
            return (
                f"{self.n_quarantined} of {self.n} rows ({percent(self.n_quarantined / self.n)}) cannot be used, more "
                f"than quarantine_limit {percent(limit)}"
            )
        lost, of = self.n_fraud_quarantined, self.n_fraud
        if lost <= limit * of:
            return None
        # Where it is used: it takes a while to load, and most deliveries lose no fraud.
        from scipy.stats import binom

        if binom.sf(lost - 1, of, limit) < BY_CHANCE:
            return (
                f"{lost} of {of} rows that say fraud ({percent(lost / of)}) cannot be used, more than quarantine_limit "
                f"{percent(limit)}"
            )
        return None
