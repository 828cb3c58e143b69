"""The names of the features that are computed, without what computes them.

A contract must not give one of them to an attribute, and is read where nothing shall be computed:
`features/declarations.py` says how each is made.
"""

from __future__ import annotations

CLOCK = ("hour", "is_weekend")
OF_ENTITIES = (
    "count_1d", "count_7d", "count_30d", "days_since_last", "amount_ratio", "amount_z", "amount_over_max",
    "amount_excess_7d", "amount_excess_30d", "amount_over_max_7d", "amount_over_max_30d", "known_fraud_share_7d",
    "known_fraud_share_30d", "known_fraud_share_{longest}d", "days_since_first_known_fraud",
    "days_since_last_known_fraud", "days_since_known_genuine",
)  # fmt: skip


WINDOW_DAYS = 90  # the longest window of a contract that names none


def in_full(text: str, window_days: int) -> str:
    """A name or a description with the days of the contract's longest window in it.

    >>> in_full("known_fraud_share_{longest}d", 90)
    'known_fraud_share_90d'
    """
    return text.replace("{longest}", str(window_days))


def feature_name(entity: str, feature: str) -> str:
    """The name of an entity's feature.

    >>> feature_name("customer_id", "count_7d")
    'customer_count_7d'
    """
    return f"{entity.removesuffix('_id')}_{feature}"
