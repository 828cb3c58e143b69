"""The settings that stored rows depend on, as inputs of these rows: each by name and with its value.

The value is kept, and not a digest, so that a change can be told in words. What has no short value, such as the grid of
models that compete, is kept as a digest. Which settings there are belongs to `settings.py`, which rows depend on them
to the assets, and what a change means to `staleness.py`.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from fraud_assets.core.digests import digest_text
from fraud_assets.core.statistics.costs import Costs

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Part = Literal["costs", "drift", "training", "maturity"]

DIGEST = re.compile("[0-9a-f]{64}")
WORDS = {
    ("costs", "review"): "the review cost",
    ("costs", "loss_share"): "the share of a missed fraud's amount that is lost",
    ("costs", "fixed_loss"): "the loss of a missed fraud without an amount",
    ("training", "review_capacity"): "the review capacity",
    ("training", "families"): "the list of model families",
    ("training", "window_months"): "the training window in months",
    ("training", "half_life_days"): "the half-life of training rows in days",
    ("training", "imbalance"): "the treatment of imbalance",
    ("maturity", "days"): "the maturity in days",
}
"""Names of settings; another one is told by its part and its own name."""


def setting_inputs(part: Part, config: DataclassInstance) -> dict[str, dict[str, str | None]]:
    """The values of a part of the settings, as inputs.

    A nested part has inputs of its own, and is left out.

    Args:
        part: the name under which they are recorded.
        config: a frozen dataclass of values.
    """
    return {part: dict(setting_values(config))}


def setting_values(config: DataclassInstance) -> dict[str, str]:
    """The values as text, by name; the digest of one that has no short text.

    >>> setting_values(Costs())
    {'review': '5', 'loss_share': '1', 'fixed_loss': '100'}
    """
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: _text(value) for name, value in values.items() if not isinstance(value, Costs)}


def maturity_values(days: float) -> dict[str, str]:
    """A contract's maturity as text, by name."""
    return {"days": _text(days)}


def setting_changed(part: str, name: str, was: str, is_now: str) -> str:
    """What has changed about a setting, as a sentence.

    >>> setting_changed("costs", "review", "10", "12")
    'the review cost was 10 and is 12'
    """
    word = WORDS.get(
        (part, name), {"drift": "the drift limit ", "training": "the training setting "}.get(part, "") + name
    )
    if DIGEST.fullmatch(was) or DIGEST.fullmatch(is_now):
        return f"{word} has changed"
    return f"{word} was {was} and is {is_now}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        # The shortest text that gives the same number again: two values never share one.
        return repr(value).removesuffix(".0")
    if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return digest_text(repr(value))
