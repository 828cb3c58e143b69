"""What a review and a missed fraud cost: the one object that training, evaluation and reports share.

Put together once, in `settings.py`. Which decisions follow from costs belongs to `models/decision_threshold.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Costs:
    """What reviews and missed frauds cost, in the currency of the amounts.

    Attributes:
        review: of one card on one day. 5: some ten minutes of an analyst.
        loss_share: the share of a missed fraud's amount that is lost. 1: nothing comes back.
        fixed_loss: the loss of a missed fraud whose amount is not known, or where the source has no amount. 100: the
            order of a card fraud.

    Raises:
        ValueError: for costs that are not finite, or below 0.
    """

    review: float = 5.0
    loss_share: float = 1.0
    fixed_loss: float = 100.0

    def __post_init__(self) -> None:
        if not all(0 <= cost < math.inf for cost in vars(self).values()):
            raise ValueError(f"{self} cannot be: costs are finite and 0 or more")

    def in_words(self, *, has_amount: bool) -> str:
        """Both, for a source with amounts or without.

        >>> Costs().in_words(has_amount=True)
        'a review costs 5, a missed fraud its amount'
        """
        lost = f"{self.fixed_loss:g}"
        if has_amount:
            lost = "its amount" if self.loss_share == 1 else f"{self.loss_share:g} of its amount"
        return f"a review costs {self.review:g}, a missed fraud {lost}"

    def losses(self, y: Bools, amount: Floats | None) -> Floats:
        """What each transaction costs when it is missed, shape (n,): 0 for genuine ones."""
        if amount is None:
            return np.where(y, self.fixed_loss, 0.0)
        return np.where(y, np.where(is_value(amount), self.loss_share * amount, self.fixed_loss), 0.0)


def is_value(amount: Floats) -> Bools:
    """Whether an amount is known and can be lost."""
    return np.isfinite(amount) & (amount > 0)
