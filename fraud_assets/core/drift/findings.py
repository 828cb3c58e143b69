"""What a drift report is made of: one finding for each thing that was looked at, whoever looked.

The words of the report (statuses, kinds, causes) and its row belong here, so that everything that measures, judges,
shows or stores drift means the same by them. How something is measured belongs to `columns.py`,
`performance/concept.py`, `performance/label_drift.py`, `performance/estimation.py` and `domain_classifier.py`; what
they mean together to `monitoring/verdict.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

SCORE = "score"  # what findings about the champion's predictions call their feature

DriftStatus = Literal["OK", "WATCH", "DRIFT", "INSUFFICIENT_DATA"]
DRIFT_STATUSES: tuple[DriftStatus, ...] = get_args(DriftStatus)

# covariate, missing, category and multivariate look at what comes in; prediction at what the champion says of it;
# label and concept at what became known of it; estimate at what is not known yet.
DriftKind = Literal[
    "covariate", "missing", "category", "multivariate", "prediction", "label", "concept", "estimate"
]  # fmt: skip

Cause = Literal[
    "scaled",  # all values of a column by one factor, as prices rise
    "few_entities",  # a few customers changed much, the others not
    "new_category",  # a value, or an entity, that was not there before has a share of the rows
    "volume",  # more or fewer rows, and what counts them
    "distribution",  # moved, and by none of the other causes
    "fraud_pattern",  # frauds where the model expects none, or none where it expects them
    "fraud_rate",  # the same frauds, more or less often
    "missing_values",  # a column is empty where it was not
    "shifted_clock",  # times are off by whole hours
    "lost_feature",  # a column is gone, of another type, or has one value only
    "missing_rows",  # a part of the month was not delivered, or of its transactions only some
    "label_delay",  # labels come later or sooner than they did
    "few_labels",  # fewer frauds are known than the delays explain
]
# A model that learns from these learns the fault.
DATA_CAUSES: frozenset[Cause] = frozenset({"missing_values", "shifted_clock", "lost_feature", "missing_rows"})
LABEL_CAUSES: frozenset[Cause] = frozenset({"label_delay", "few_labels"})


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at in a month, beside what it was before: a row of the drift report.

    What does not apply, or could not be computed, is None.

    Attributes:
        kind: which kind of drift it is about.
        feature: the column, or the name of what was measured (`average_precision`, `fraud_rate`, `delay_days`).
        segment: the part of the month it is about, as `merchant_segment=travel`; None for all of it.
        method: the test or the estimator, or 'none'.
        status: the verdict on this finding alone.
        reason: the verdict as a sentence that an analyst understands.
        cause: what it looks like, where something moved.
        since: the first day on which it is seen.
        n_reference, n_current: rows that were compared.
        psi: population stability index, 0 and up.
        jensen_shannon: Jensen-Shannon distance with base 2, 0 to 1.
        total_variation: share of rows that sit in another bin, 0 to 1.
        statistic: of the test.
        p_value: chance of such a statistic if nothing moved, for this finding alone.
        p_adjusted: the same over all findings that were tested together.
        missing_reference, missing_current: shares of rows without a value, 0 to 1.
        median_reference, median_current: of the values that are there.
        value_reference, value_current: what was measured, before and now, where it is a number of its own: an AP, a
            fraud rate, days of delay, a ROC AUC.
        value_low, value_high: the 90 % interval of value_current.
    """

    kind: DriftKind
    feature: str
    method: str
    status: DriftStatus
    reason: str
    segment: str | None = None
    cause: Cause | None = None
    since: date | None = None
    n_reference: int | None = None
    n_current: int | None = None
    psi: float | None = None
    jensen_shannon: float | None = None
    total_variation: float | None = None
    statistic: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    missing_reference: float | None = None
    missing_current: float | None = None
    median_reference: float | None = None
    median_current: float | None = None
    value_reference: float | None = None
    value_current: float | None = None
    value_low: float | None = None
    value_high: float | None = None


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for there being several (Holm, 1979: step-down Bonferroni), in the given order.

    >>> holm([0.25, 0.0625, 0.125])
    [0.25, 0.1875, 0.25]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
