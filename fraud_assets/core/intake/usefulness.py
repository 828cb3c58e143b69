"""Whether anything can be learned from a column: the one rule, in training and in the check of a contract before it.

Which columns are given to models at all is the contract's to say; how their values become numbers belongs to
`models/encoding.py`.
"""

from __future__ import annotations

from fraud_assets.core.words import percent

# Of 20 rows, 19 have a value that no other row has: an id or a name.
LEAST_REPEATED = 0.05


def why_useless(
    n: int,
    n_given: int,
    lowest: object,
    highest: object,
    *,
    n_repeated: int | None = None,
    least_repeated: float = LEAST_REPEATED,
) -> str | None:
    """Why nothing can be learned from a column, to read on after its name; None where something may be.

    Args:
        n: rows.
        n_given: rows that have a value.
        lowest: of the values.
        highest: of the values.
        n_repeated: of a text, rows with a value that another row has, too; None for other columns.
        least_repeated: a text with a smaller share of such rows says nothing about the next row.

    >>> why_useless(10, 0, None, None)
    'has no value in any row'
    >>> why_useless(10, 10, 2.5, 2.5)
    'has the same value in every row, 2.5'
    >>> why_useless(10, 9, 2.5, 2.5) is None
    True
    """
    if n_given == 0:
        return "has no value in any row"
    if lowest == highest and n_given == n:
        return f"has the same value in every row, {_short(lowest)}"
    if n_repeated is not None and n_repeated < least_repeated * n_given:
        return (
            f"has a value of its own in {percent(1 - n_repeated / n_given)} of the rows, as ids and names do, and so "
            "says nothing about the next row"
        )
    return None


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return repr(value[:40] + "...") if isinstance(value, str) and len(value) > 40 else str(value)
