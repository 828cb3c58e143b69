"""Months on their way from the source into the tables, with all that decides about their rows.

That is the contract, what people decided about quarantined rows, and the ids that other months already have. Reading a
source belongs to `sources.py`, applying the contract to `core/intake/accept.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import Source
from fraud_assets.core.digests import TableDigest
from fraud_assets.core.intake.accept import Intake, accept
from fraud_assets.core.intake.spool import MEMORY
from fraud_assets.core.lineage.staleness import Inputs, contract_inputs
from fraud_assets.workflows.quarantine import decisions_digest, decisions_for


@dataclass(frozen=True)
class Arrival:
    """A month after the contract, and what its rows were made of."""

    intake: Intake
    inputs: Inputs


@contextmanager
def arriving(source: Source, store: MonthStore, months: Sequence[str]) -> Iterator[dict[str, Arrival]]:
    """Takes months in, in order, and gives their memory and disk back at the end; nothing is written.

    A transaction id that an earlier month has is quarantined.

    Args:
        source: delivers the months.
        store: has the earlier months; one of `months` counts as it is delivered, not as it is stored.
        months: in order.

    Raises:
        SourceError, ContractError, IntakeError: when one of the months cannot be used.
    """
    contract, arrivals = store.contract, dict[str, Arrival]()
    with ExitStack() as open_intakes:
        for month in months:
            delivery = source.read(month)
            decisions = decisions_for(store.database, month)
            memory = MEMORY // len(months)
            intake = accept(delivery, contract, month, decisions, memory=memory)
            before = {name: arrival.intake for name, arrival in arrivals.items() if name < month}
            earlier, compared = ids_in_earlier_months(store, month, intake, before)
            if earlier.num_rows:
                intake.close()
                intake = accept(delivery, contract, month, decisions, earlier=earlier, memory=memory)
            open_intakes.enter_context(intake)
            arrivals[month] = Arrival(
                intake,
                {
                    **contract_inputs(contract),
                    "source": {month: delivery.fingerprint},
                    "quarantine_decisions": {month: decisions_digest(store.database, month)},
                    **({"raw_transactions": compared} if compared else {}),
                    "earlier_ids": {month: " ".join(sorted(compared)) or None},
                },
            )
        yield arrivals


def ids_in_earlier_months(
    store: MonthStore, month: str, intake: Intake, arriving: Mapping[str, Intake]
) -> tuple[pa.Table, dict[str, str | None]]:
    """The month's ids that an earlier month has.

    Most sources number on, and then the months' smallest and largest ids tell that there is nothing to look for.

    Args:
        store: has the earlier months.
        month: the month.
        intake: its rows.
        arriving: earlier months that are about to replace those of the store.

    Returns:
        `transaction_id` and the `month` that has it, the earliest; and the digests of the months that were searched.
    """
    stored = {name: digest for name, digest in store.months("raw_transactions").items() if name < month}
    overlapping = _overlapping(store, intake, {name: stored[name] for name in stored if name not in arriving})
    compared: dict[str, str | None] = {name: stored[name] for name in overlapping}
    found = _common_with_stored(store, intake, overlapping)
    for name, other in arriving.items():
        if not _ids_are_made(store) and _overlap(intake.id_range, other.id_range):
            compared[name] = _digest(other)
            ids = intake.accepted.common(other.accepted, "transaction_id")
            found.append(pa.table({"transaction_id": ids, "month": pa.array([name] * len(ids), pa.string())}))
    schema = pa.schema([("transaction_id", store.contract.transaction_id_type), ("month", pa.string())])
    rows = pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in found)])
    return rows.group_by("transaction_id").aggregate([("month", "min")]).rename_columns(schema.names), compared


def months_with_ids_of(store: MonthStore, month: str, intake: Intake) -> list[str]:
    """The later months that are stored with ids which this month has: they were written before it came."""
    later = {name: digest for name, digest in store.months("raw_transactions").items() if name > month}
    found = _common_with_stored(store, intake, _overlapping(store, intake, later))
    return sorted({name for table in found for name in table["month"].to_pylist()})


def months_with_ids_among(store: MonthStore) -> Callable[[str], str | None]:
    """Says of a stored month which earlier ones have ids that lie among its own, as its input `earlier_ids` does.

    By the smallest and largest id only: the month is then taken in again, and most often comes out as it was.
    """
    ranges = {} if _ids_are_made(store) else _ranges(store, store.months("raw_transactions"))

    def earlier(month: str) -> str | None:
        found = (name for name in sorted(ranges) if name < month and _overlap(ranges[name], ranges.get(month)))
        return " ".join(found) or None

    return earlier


def remember_ids(store: MonthStore, months: Mapping[str, Intake]) -> None:
    """Keeps the smallest and largest id of months that have been stored."""
    digests = store.months("raw_transactions")
    _remember(store, [(month, digests[month], *_as_text(intake.id_range)) for month, intake in months.items()])


def _remember(store: MonthStore, ranges: Iterable[tuple[str, str, str | None, str | None]]) -> None:
    with store.database.session() as connection:
        # In turns: two that write the same months in another order would wait for each other.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.transaction_id_ranges'))")
        connection.cursor().executemany(
            "INSERT INTO transaction_id_ranges VALUES (%s, %s, %s, %s) ON CONFLICT (month) DO UPDATE SET "
            "digest = excluded.digest, lowest = excluded.lowest, highest = excluded.highest",
            list(ranges),
        )


def _overlapping(store: MonthStore, intake: Intake, stored: Mapping[str, str]) -> list[str]:
    """The stored months whose ids lie among those of the intake."""
    if not stored or intake.id_range is None or _ids_are_made(store):
        return []
    return sorted(name for name, bounds in _ranges(store, stored).items() if _overlap(intake.id_range, bounds))


def _ranges(store: MonthStore, stored: Mapping[str, str]) -> dict[str, tuple[Any, Any] | None]:
    """The smallest and largest id of stored months; None for one without rows."""
    kind = store.contract.transaction_id_type
    remembered = store.database.rows(
        "transaction_id_ranges", "SELECT month, digest, lowest, highest FROM transaction_id_ranges"
    )
    known = {month: (lowest, highest) for month, digest, lowest, highest in remembered if stored.get(month) == digest}
    for month in stored.keys() - known.keys():
        ids = store.read("raw_transactions", ["transaction_id"], first_month=month, last_month=month)["transaction_id"]
        known[month] = _as_text(None if len(ids) == 0 else tuple(pc.min_max(ids).as_py().values()))
        if store.database.writable:
            _remember(store, [(month, stored[month], *known[month])])
    return {
        month: None if bounds[0] is None else tuple(pa.array(bounds, pa.string()).cast(kind).to_pylist())
        for month, bounds in known.items()
    }


def _ids_are_made(store: MonthStore) -> bool:
    """Whether ids are made of file and row, so that no two are the same."""
    return store.contract.transaction_id is None


def _overlap(one: tuple[Any, Any] | None, other: tuple[Any, Any] | None) -> bool:
    return one is not None and other is not None and bool(one[0] <= other[1] and other[0] <= one[1])


def _as_text(bounds: tuple[Any, Any] | None) -> tuple[str | None, str | None]:
    return (None, None) if bounds is None else (str(bounds[0]), str(bounds[1]))


def _common_with_stored(store: MonthStore, intake: Intake, months: Sequence[str]) -> list[pa.Table]:
    """For each of some stored months, the ids that it shares with the intake."""
    if not months:
        return []
    ids = intake.accepted.reader()
    schema = pa.schema([ids.schema.field("transaction_id")])
    only = pa.RecordBatchReader.from_batches(schema, (batch.select(["transaction_id"]) for batch in ids))
    found = []
    with store.database.bulk() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("arriving_ids", only, mode="create", temporary=True)
        for month in months:
            bounds = (store.contract.month_start(month), store.contract.month_end(month))
            cursor.execute(
                "SELECT transaction_id FROM arriving_ids WHERE transaction_id IN (SELECT transaction_id "
                "FROM raw_transactions WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz)",
                [moment.isoformat() for moment in bounds],
            )
            shared = cursor.fetch_arrow_table()["transaction_id"]
            found.append(pa.table({"transaction_id": shared, "month": pa.array([month] * len(shared), pa.string())}))
        # The connection is kept for others.
        cursor.execute("DROP TABLE arriving_ids")
    return found


def _digest(intake: Intake) -> str:
    """The digest that the month will have in `raw_transactions`."""
    rows = intake.transactions()
    digest = TableDigest(rows.schema)
    for batch in rows:
        digest.update(batch)
    return digest.hexdigest()
