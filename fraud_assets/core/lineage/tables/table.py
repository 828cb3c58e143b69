"""What a table is: described columns, a month column, an order and indexes; and the columns that many tables share.

How a table is written or read belongs to `adapters/postgres/months.py`; what its rows mean is said in the asset.
Descriptions are no part of the Arrow schema: they enter no digest and no comparison of schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", tz="UTC")
Layer = Literal["raw", "labels", "features", "monitoring", "models", "serving"]
# Its rows, as they were delivered, may name anybody.
QUARANTINED_TABLE = "quarantined_transactions"
# How reasons are stored (`core/reasons.py`).
AS_JSON = "as JSON: a list of objects with rule, text (the sentence) and column"
# A column and what it means.
Described: TypeAlias = tuple[pa.Field, str]


@dataclass(frozen=True)
class Table:
    """A monthly-partitioned table.

    Attributes:
        name: the asset and the table.
        schema: its columns; `month_column` is among them.
        month_column: a timestamp or date column; a row belongs to the month its value lies in.
        order: columns that fix the order of rows, and with it the digest of a month.
        key: columns that name a row of a month, never missing and never shared by two; by them a row is found again
            in another version of the month. Empty where rows have no name.
        indexes: column lists that lookups need; built for the months that are looked up (`MonthStore.index_months`).
        volatile: columns that say when a row was written, and so are no part of the digest.
        by_range_only: whether there are many rows a month, so that reading all months must be asked for by name.
        layer: where it stands on the way from delivery to decision.
        descriptions: what each column means: unit, range, and when it is empty.
        personal: columns that name or describe a person, or may.
    """

    name: str
    schema: pa.Schema
    month_column: str
    order: tuple[str, ...]
    key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    volatile: tuple[str, ...] = ()
    by_range_only: bool = False
    layer: Layer | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict)
    personal: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, layer: Layer, columns: Sequence[Described], month_column: str, **more: Any) -> Self:
        """A table of described columns; `more` are further attributes."""
        schema = pa.schema([column for column, _ in columns])
        said = {column.name: text for column, text in columns}
        return cls(name, schema, month_column, layer=layer, descriptions=said, **more)

    @property
    def identifying(self) -> tuple[str, ...]:
        """The columns that tell whose row it is, or which: the personal ones, and the transaction's own name."""
        return tuple(name for name in self.schema.names if name in (*self.personal, "transaction_id"))

    @property
    def holds_people(self) -> bool:
        """Whether its rows are about persons or their transactions, and so go with age."""
        return self.name == QUARANTINED_TABLE or bool(self.identifying)

    def in_order(self, rows: pa.Table) -> bool:
        """Whether the rows are in the table's order; missing values come last."""
        before, after = rows.slice(0, max(rows.num_rows - 1, 0)), rows.slice(1)
        follows: pa.ChunkedArray = pa.chunked_array([pa.repeat(True, after.num_rows)])
        for column in reversed(self.order):
            one, other = before[column], after[column]
            less, equal = pc.less(one, other), pc.equal(one, other)
            if one.null_count or other.null_count:
                less = pc.fill_null(less, pc.and_(pc.is_valid(one), pc.is_null(other)))
                equal = pc.fill_null(equal, pc.and_(pc.is_null(one), pc.is_null(other)))
            follows = pc.or_(less, pc.and_(equal, follows))
        return bool(pc.all(follows, min_count=0).as_py())


def column(name: str, kind: pa.DataType, description: str, *, nullable: bool = True) -> Described:
    """A column and what it means."""
    return pa.field(name, kind, nullable), description


def first_of_month(meaning: str) -> Described:
    """The column `month`, of tables whose rows are about a whole month."""
    return column("month", pa.date32(), f"First day of the month {meaning}.", nullable=False)


def described(fields: Iterable[pa.Field], descriptions: Mapping[str, str]) -> list[Described]:
    """These columns with what each means."""
    return [(one, descriptions[one.name]) for one in fields]


def with_intervals(meanings: Mapping[str, str]) -> list[Described]:
    """Each of these with the ends of its 95 % interval."""
    ends = {"": "", "_low": "lower", "_high": "upper"}
    return [
        column(
            f"{name}{end}",
            pa.float64(),
            f"{meaning[0].upper()}{meaning[1:]}." if not which else f"The {which} end of {name}'s 95 % interval.",
        )
        for name, meaning in meanings.items()
        for end, which in ends.items()
    ]
