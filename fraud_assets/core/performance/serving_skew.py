"""Serving skew: were a transaction's features, when it was scored, those that the batch has made of it since?

As Chronon's online-offline consistency reports it: per feature how often one side has no value, how often both have
another, and by how much (SMAPE, the sum of |a - b| over the sum of |a| + |b|). A model is trained on the batch's
features, so what differs here it was never shown. Where the two come from belongs to `workflows/scores.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.words import percent

# Sums over another order of the same rows differ in the last digits.
TOLERANCE = 1e-6
# Above this share of transactions, a feature that differs is told of: a label or two that came late is below.
WORTH_TELLING = 0.01


@dataclass
class _Counts:
    """Of one feature of one version."""

    n: int = 0
    missing: int = 0
    extra: int = 0
    mismatch: int = 0
    apart: float = 0.0
    total: float = 0.0
    largest: float = 0.0
    is_number: bool = True


class Skew:
    """Counts over a month, part by part."""

    def __init__(self, batch: pa.Table, names: Mapping[int, Sequence[str]]) -> None:
        """Begins to count.

        Args:
            batch: `transaction_id` and features of all transactions of the month, as the batch has them.
            names: the features of each version.
        """
        self._batch, self._ids = batch, batch["transaction_id"].combine_chunks()
        self._names = {version: [name for name in own if name in batch.column_names] for version, own in names.items()}
        self._unknown = {version: sorted(set(own) - {*self._names[version]}) for version, own in names.items()}
        self._scored: dict[int, int] = dict.fromkeys(names, 0)
        self._matched: dict[int, int] = dict.fromkeys(names, 0)
        self._found: dict[tuple[int, str], _Counts] = {}

    def add(self, served: pa.Table) -> None:
        """Counts a part of the month.

        Args:
            served: `transaction_id`, `model_version` and features as they were when transactions were scored; missing
                where the version does not have one.
        """
        versions = served["model_version"].to_numpy()
        for version, names in self._names.items():
            own = served.filter(pa.array(versions == version))
            place = pc.index_in(own["transaction_id"], value_set=self._ids)
            is_there = pc.is_valid(place)
            self._scored[version] += own.num_rows
            self._matched[version] += pc.sum(is_there).as_py() or 0
            own, place = own.filter(is_there), place.drop_null().combine_chunks()
            for name in names:
                counts = self._found.setdefault((version, name), _Counts())
                _compare(counts, own[name], self._batch[name].take(place))

    def rows(self, month: str, schema: pa.Schema) -> pa.Table:
        """The table's rows: one for each version and feature."""
        found: list[dict[str, Any]] = []
        for version in sorted(self._names):
            base = {
                "month": date.fromisoformat(f"{month}-01"),
                "model_version": version,
                "n_scored": self._scored[version],
                "n_matched": self._matched[version],
            }
            for name in self._names[version]:
                found.append(base | {"feature": name} | _row(self._found.get((version, name), _Counts())))
            reason = "the batch has no such feature any more"
            found += [base | {"feature": name, "reason": reason} for name in self._unknown[version]]
        return pa.Table.from_pylist(found, schema=schema)


def _compare(counts: _Counts, served: pa.ChunkedArray, batch: pa.ChunkedArray) -> None:
    counts.n += len(served)
    if pa.types.is_string(batch.type):
        counts.is_number = False
        one, other = (np.array(column.to_pylist(), dtype=object) for column in (served, batch))
        known, expected = (pc.is_valid(column).to_numpy() for column in (served, batch))
        differs = one != other
    else:
        a, b = _numbers(served), _numbers(batch)
        known, expected = ~np.isnan(a), ~np.isnan(b)
        both = known & expected
        apart, size = np.abs(a - b), np.abs(a) + np.abs(b)
        differs = apart > TOLERANCE * np.maximum(1.0, size / 2)
        counts.apart += float(apart[both].sum())
        counts.total += float(size[both].sum())
        counts.largest = max(counts.largest, float(apart[both].max(initial=0.0)))
    counts.missing += int((~known & expected).sum())
    counts.extra += int((known & ~expected).sum())
    counts.mismatch += int((known & expected & differs).sum())


def _numbers(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """NaN where there is no value."""
    values = column.cast(pa.float64(), safe=False) if not pa.types.is_boolean(column.type) else column.cast(pa.int8())
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _row(counts: _Counts) -> dict[str, Any]:
    row: dict[str, Any] = {
        "n_missing": counts.missing,
        "n_extra": counts.extra,
        "n_mismatch": counts.mismatch,
    }
    if not counts.n:
        return row | {"reason": "none of the scored transactions is in the batch"}
    row["skewed_share"] = (counts.missing + counts.extra + counts.mismatch) / counts.n
    if counts.is_number:
        row["smape"] = counts.apart / counts.total if counts.total else 0.0
        row["largest_difference"] = counts.largest
    return row


def skew_in_words(rows: Sequence[Mapping[str, Any]], most: int = 5) -> str | None:
    """What is worth telling of a month's rows, in a sentence; None where nothing is.

    Args:
        rows: of the table.
        most: features that are named.
    """
    if not rows:
        return None
    said = []
    if unmatched := sorted({row["model_version"] for row in rows if not row["n_matched"]}):
        named = ", ".join(str(version) for version in unmatched)
        said.append(f"no transaction that version {named} scored is in the batch: compare their ids")
    far = [row for row in rows if (row["skewed_share"] or 0) > WORTH_TELLING]
    far.sort(key=lambda row: -row["skewed_share"])
    if far:
        shown = ", ".join(
            f"{row['feature']} ({percent(row['skewed_share'])} of version {row['model_version']})" for row in far[:most]
        )
        more = f" and {len(far) - most} more" if len(far) > most else ""
        said.append(f"{len(far)} features differ in more than {percent(WORTH_TELLING)} of transactions: {shown}{more}")
    if gone := [row["feature"] for row in rows if row["n_missing"] is None]:
        said.append(f"the batch has no {', '.join(gone[:most])} any more")
    return "; ".join(said) or None
