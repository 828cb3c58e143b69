"""What a model's decision threshold promises, as plain values that travel with the model.

Apart from `decision_threshold.py`, which chooses the threshold, so that serving can read a manifest without what
chooses.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.words import percent

# What a threshold brings, by the promise's names and by those of an evaluation's row, with what to call each.
PROMISED = {
    "alerts_per_day": ("alerts_per_day", "alerts a day"),
    "recall": ("recall_at_threshold", "recall"),
    "value_detection_rate": ("value_detection_rate", "value caught"),
    "expected_cost": ("expected_cost", "cost a day"),
    "cost_without_review": ("cost_without_review", "cost a day without reviews"),
}


class Estimate(BaseModel):
    """A number and its 95 % interval; without bounds where none can be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    low: float | None = None
    high: float | None = None


class DecisionRule(BaseModel):
    """From which score on a transaction is reviewed, why from there, and what that brought on the validation rows.

    Attributes:
        threshold: transactions that score at or above it are reviewed.
        sentence: the rule in words.
        review_capacity: cards a day that could be reviewed.
        review_cost, loss_share, fixed_loss: as in `costs.Costs`.
        n, n_fraud, n_days: transactions it was chosen on, frauds among them, days with a transaction.
        alerts_per_day: cards to review.
        recall: share of the frauds.
        value_detection_rate: share of the fraud amount; None where no amount is known.
        expected_cost: a day, of reviews and of missed frauds.
        cost_without_review: a day, of all frauds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: Annotated[float, Field(ge=0, le=1)]
    sentence: str
    review_capacity: int
    review_cost: float
    loss_share: float
    fixed_loss: float
    n: int
    n_fraud: int
    n_days: int
    alerts_per_day: Estimate
    recall: Estimate
    value_detection_rate: Estimate | None = None
    expected_cost: Estimate
    cost_without_review: Estimate

    @property
    def costs(self) -> Costs:
        """The costs by which it was chosen."""
        return Costs(self.review_cost, self.loss_share, self.fixed_loss)

    def as_row(self) -> dict[str, str | float | None]:
        """The sentence as `rule`, and each promise in three columns: `promised_recall`, `..._low`, `..._high`."""
        row: dict[str, str | float | None] = {"rule": self.sentence}
        for name in PROMISED:
            estimate: Estimate | None = getattr(self, name)
            for end in ("value", "low", "high"):
                column = f"promised_{name}" + ("" if end == "value" else f"_{end}")
                row[column] = None if estimate is None else getattr(estimate, end)
        return row


def promise_in_words(rule: DecisionRule) -> str:
    """What a rule promises, as a Markdown list."""
    lines = []
    for name, (_, label) in PROMISED.items():
        estimate: Estimate | None = getattr(rule, name)
        if estimate is not None:
            lines.append(f"- {label}: {figure(name, estimate.value, estimate.low, estimate.high)}")
    return "\n".join(lines)


def figure(name: str, value: float, low: float | None = None, high: float | None = None) -> str:
    """A figure of `PROMISED` with its interval, as people read it.

    >>> figure("recall", 0.887, 0.871, 0.9), figure("alerts_per_day", 99.84), figure("expected_cost", 3764.2, 3500, 4e3)
    ('88.7 % [87.1 %, 90.0 %]', '99.8', '3,764 [3,500, 4,000]')
    """

    def shown(number: float) -> str:
        if name in ("recall", "value_detection_rate"):
            return percent(number)
        return f"{number:,.1f}" if name == "alerts_per_day" else f"{number:,.0f}"

    return shown(value) if low is None or high is None else f"{shown(value)} [{shown(low)}, {shown(high)}]"
