"""Pass-through: a small share of the transactions that would be held is let through at random, to learn how they end.

What is held never shows whether it was fraud as what goes through does. Which rows are let through is decided here,
and for how many a model that learns from them takes them; what they say of a model in `performance/realised.py`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

LARGEST_SHARE = 0.1  # of what is held; more would be a policy, and no sample
SEED_BYTES = 16  # shorter seeds can be tried out
# A row that stands for more would decide by itself what a model learns (Ionides, J. Comput. Graph. Stat. 17, 2008).
LARGEST_WEIGHT = 50.0


class PassThroughError(ValueError):
    """Settings of the pass-through that do not go together."""


@dataclass(frozen=True)
class PassThrough:
    """What is let through.

    Attributes:
        share: of the transactions that would be held, 0 to `LARGEST_SHARE`.
        most: the largest amount that is let through; None where the source has no amounts.
        seed: secret, so that nobody can choose an id that is let through.

    Raises:
        PassThroughError: for a share out of range, an amount below 0, or a seed that is missing or too short.
    """

    share: float = 0.0
    most: float | None = None
    seed: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= LARGEST_SHARE:
            raise PassThroughError(f"a share of {self.share:g} cannot be let through: it is 0 to {LARGEST_SHARE:g}")
        if self.most is not None and not self.most >= 0:
            raise PassThroughError(f"{self.most:g} cannot be the largest amount that is let through: it is 0 or more")
        if self.share and len(self.seed) < SEED_BYTES:
            raise PassThroughError(f"the secret seed has {len(self.seed)} bytes: it takes {SEED_BYTES} or more")

    def probabilities(self, held: Bools, amounts: Floats | None) -> Floats:
        """With what probability each transaction is let through although it would be held, shape (n,).

        0 for one that is not held, or whose amount is above the largest, or not known.

        Args:
            held: whether it would be, shape (n,).
            amounts: shape (n,), NaN where unknown; None where the source has none.
        """
        able = held if self.most is None or amounts is None else held & (amounts <= self.most)
        return np.where(able, self.share, 0.0)

    def lets_through(self, ids: Sequence[Any], probabilities: Floats) -> Bools:
        """Which are let through, shape (n,): for the same id and seed always the same, and more with a larger share.

        Args:
            ids: of the transactions; not looked at where no probability is above 0.
            probabilities: as `probabilities` gives them.
        """
        chosen = np.zeros(len(probabilities), dtype=bool)
        for place in np.flatnonzero(probabilities).tolist():
            chosen[place] = self._draw(ids[place]) < probabilities[place]
        return chosen

    def _draw(self, key: Any) -> float:
        """A number from 0 to 1 that looks random, of a transaction."""
        digest = hmac.digest(self.seed, str(key).encode("utf-8", "surrogatepass"), hashlib.sha256)
        return int.from_bytes(digest[:8], "big") / 2**64


def learning_weights(labels: pa.Table, drawn: pa.Table) -> Floats | None:
    """For how many rows each one counts in training, shape (n,); None where all count alike.

    Of a transaction that was held, silence says nothing: whoever would have complained was not robbed. So one of which
    nobody said anything is left out (0), and those that were let through stand for it: 1 over their probability
    (Horvitz and Thompson, JASA 47, 1952, 663-685), at most `LARGEST_WEIGHT`. As far as held ones were judged by
    somebody, they are there themselves, and those that were let through stand for so many fewer.

    Args:
        labels: as `labels_as_of` gives them.
        drawn: `transaction_id`, `passed_through` and `pass_through_probability` of those that would be held and could
            be let through; each once.
    """
    place = pc.index_in(labels["transaction_id"], value_set=drawn["transaction_id"].combine_chunks())
    known = pc.is_valid(place).to_numpy()
    if not known.any():
        return None
    at = place.drop_null().to_numpy()
    through, chance = (np.zeros(len(known), dtype=kind) for kind in (bool, float))
    through[known] = drawn["passed_through"].to_numpy(zero_copy_only=False)[at]
    chance[known] = drawn["pass_through_probability"].to_numpy()[at]
    matured = labels["is_matured"].to_numpy()
    is_silent = pc.fill_null(pc.equal(labels["label_source"], "auto_matured"), True).to_numpy(zero_copy_only=False)
    held = known & ~through
    silent = held & is_silent & matured
    share = silent.sum() / max(int((held & matured).sum()), 1)
    with np.errstate(divide="ignore"):
        stands_for = np.minimum(1 / chance, LARGEST_WEIGHT)
    return np.where(through, 1 + share * (stands_for - 1), np.where(silent, 0.0, 1.0))
