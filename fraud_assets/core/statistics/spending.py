"""How sure a repeated look has to be, so that all looks together keep one promise.

What is looked at belongs to `evaluation/pair.py`, which looks there were to the stored evaluations.
"""

from __future__ import annotations

ALL_LOOKS = 0.05
"""The chance that an equal challenger is ever found better, over all looks at it, at most."""

EQUAL_LOOKS = 3
"""Looks that have the same share: a model that is better shall be found so within a quarter of a year."""


def spent_at(look: int, total: float = ALL_LOOKS) -> float:
    """The one-sided level of a look: a quarter of the total for each of the first three.

    Of the last quarter, look k has the share 1 / ((k - 3) (k - 2)); these sum to one over any number of looks.

    This is alpha-spending: each look takes its share of one error probability, and looks that follow have what is left
    (Lan and DeMets, Biometrika 70, 1983, 659-663; for a number of looks that nobody knows beforehand Foster and Stine,
    Alpha-investing, JRSS B 70, 2008, 429-444, section 2). The shares are held together by Bonferroni's inequality
    alone. So the promise holds whatever the looks have in common: later ones look at the same transactions again,
    beside new ones, with labels that may have changed. Bounds from the joint distribution of the looks (O'Brien and
    Fleming, Pocock) would be a little narrower at a third look or later, but need the number of looks and the
    amount of information beforehand, and leave the first look, which is the only one where each month has a new
    model, next to nothing.

    Args:
        look: from 1.
        total: over all looks, between 0 and 1.

    >>> [round(spent_at(look), 5) for look in (1, 2, 3, 4, 5)]
    [0.0125, 0.0125, 0.0125, 0.00625, 0.00208]
    """
    if look < 1:
        raise ValueError(f"look is {look}; the first one is 1")
    share = total / (EQUAL_LOOKS + 1)
    later = look - EQUAL_LOOKS
    return share if later <= 0 else share / (later * (later + 1))
