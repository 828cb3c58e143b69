"""Which values of rows cannot be read, and why."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.reasons import Reason, Rule


class Unreadable:
    """Which rows have a value that cannot be read: reason by reason."""

    def __init__(self) -> None:
        self.reasons: list[tuple[Reason, npt.NDArray[np.bool_]]] = []

    def note(self, column: str, words: str, rows: pa.Array, rule: Rule = Rule.UNREADABLE_VALUE) -> None:
        """Notes the rows where `rows` is true.

        Args:
            column: the platform's name of the column.
            words: what is wrong, after the column's name; where the contract could help, how, in brackets.
            rows: a boolean for each row.
            rule: the rule that they break.
        """
        if pc.any(rows).as_py():
            reason = Reason(rule, f"{column} {words}", column)
            self.reasons.append((reason, np.asarray(pc.fill_null(rows, False))))


def missing_in(values: pa.Array) -> pa.Array:
    """Where there is no value: null, NaN, and text of nothing but spaces."""
    if pa.types.is_string(values.type):
        return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)
    return pc.is_null(values, nan_is_null=True)
