"""What each stored month was made of, which months are stale, and in what order they are rebuilt.

A derived month records the digest of everything it read. It is stale when one of them is another one now, or when it
was built on a month that is stale itself. Reading what is recorded and what is current belongs to
`adapters/postgres/months.py` and `workflows/runs/refresh.py`, rebuilding to `workflows/runs/refresh.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.configuration import maturity_values, setting_changed
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.months import shift_month

Inputs = dict[str, dict[str, str | None]]
"""Table to month to digest; None where that month was looked for and was not there.

What is no table goes by a name of its own: "contract" (see `contract_inputs`), "features" with the one key "",
"source" and "label_feed" (what was delivered), "ledger" (see `champion_inputs`), "added_labels",
"quarantine_decisions", "scored_transactions" (how many scores of the month the service gave), "shadow_scores" (how
many of the month other versions gave beside it), "passed_through" (how many could be let through), "earlier_ids" (the
earlier months with ids among those of the month, by name instead of digest), and "costs", "drift", "training" and
"maturity" (settings by name, with their values: `configuration.py`).

Months from before settings were recorded have "contract" and "training" with the one key "", a digest of all of it.
"""

Partition = tuple[str, str]
"""A table and a month."""

UP_TO_DATE = "up_to_date"
"""The check of every asset that says whether a month is stale."""
INPUTS_KEY = b"fraud.inputs"
CHAMPION = "champion before "
WITHOUT_MATURITY = "without maturity"
SCORES, SHADOW, DRAWN = "scored_transactions", "shadow_scores", "passed_through"
SETTINGS = ("costs", "drift", "training", "maturity")
"""The names under which settings are recorded."""


def inputs_of(*sources: pa.Table | Mapping[str, Mapping[str, str | None]]) -> Inputs:
    """What these tables, as they were read, and these inputs come to together.

    Where two of them know a month by different digests, it was replaced between the two readings. The first is kept:
    what was made of it is then stale from the start, and is rebuilt.

    Args:
        sources: tables as the store read them, with their inputs in the schema's metadata; or inputs.

    Raises:
        ValueError: for a table that does not say what it was read from.
    """
    merged: Inputs = {}
    for source in sources:
        if isinstance(source, pa.Table):
            text = (source.schema.metadata or {}).get(INPUTS_KEY)
            if text is None:
                raise ValueError(
                    f"a table with the columns {source.column_names} does not say what it was read from; pass it as "
                    "the store read it, before it is filtered or joined"
                )
            source = json.loads(text)
        for table, months in source.items():
            merged[table] = dict(months) | merged.get(table, {})
    return merged


def champion_inputs(month: str, version: int | None) -> Inputs:
    """The version that was live before the decision of a month, as an input."""
    return {"ledger": {CHAMPION + month: None if version is None else str(version)}}


def features_inputs(digest: str | None) -> Inputs:
    """How features are made (`features.features_digest`), as an input."""
    return {"features": {"": digest}}


def contract_inputs(contract: Contract) -> Inputs:
    """What a contract says, as an input; its maturity is one of its own, which not all tables depend on."""
    return {"contract": {WITHOUT_MATURITY: contract.digest_without_maturity}}


def maturity_inputs(contract: Contract) -> Inputs:
    """A contract's maturity, as an input."""
    return {"maturity": dict(maturity_values(contract.maturity_days))}


def scores_inputs(counts: Mapping[str, int | None]) -> Inputs:
    """How many scores of each month are kept, as an input; they are only ever added to. None where there are none."""
    return {SCORES: {month: None if n is None else str(n) for month, n in counts.items()}}


def shadow_inputs(counts: Mapping[str, int | None]) -> Inputs:
    """How many scores of versions that did not answer are kept of each month, as an input; as `scores_inputs`."""
    return {SHADOW: {month: None if n is None else str(n) for month, n in counts.items()}}


def drawn_inputs(counts: Mapping[str, int]) -> Inputs:
    """How many transactions of each month could be let through at random, as an input; none where there are none.

    So a month of a source that lets nothing through is made of what it always was.
    """
    found: dict[str, str | None] = {month: str(n) for month, n in sorted(counts.items()) if n}
    return {DRAWN: found} if found else {}


def evidence_inputs(contract: Contract) -> Inputs:
    """A contract as a whole, as the evidence of decisions and of models.

    Not what a month records: the ledger knows a decision again by its evidence, and so does a model by what it was
    trained on. Told in another form, everything that was decided before would be decided, and trained, once more.
    """
    return {"contract": {"": contract.digest}}


def absent(inputs: Mapping[str, Mapping[str, str | None]], table: str) -> list[str]:
    """The months of a table that were looked for and were not there, in order."""
    return sorted(month for month, digest in inputs.get(table, {}).items() if digest is None)


@dataclass(frozen=True)
class Stale:
    """A month that no longer is what would be made today.

    Attributes:
        table, month: the partition.
        changes: what it was made of and is another now, as sentences.
        built_on: stale partitions that it was made of. With no changes, it may turn out the same when they are
            rebuilt.
    """

    table: str
    month: str
    changes: tuple[str, ...] = ()
    built_on: tuple[Partition, ...] = ()

    @property
    def partition(self) -> Partition:
        """The table and the month."""
        return self.table, self.month

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is stale, as sentences."""
        return self.changes + _told(self.built_on)


def find_stale(
    current: Mapping[Partition, tuple[str, Inputs | None]],
    lookup: Callable[[str, str], str | None],
    final: Callable[[str], bool] = lambda _: False,
) -> list[Stale]:
    """The partitions that are stale, by month and then in the order of the graph.

    An input that was and is still missing, or cannot be checked any more, makes nothing stale. An example of the second
    is a delivery whose files were archived: there is nothing to rebuild it from.

    Args:
        current: of every stored partition its digest and the inputs recorded with it; None where none were.
        lookup: the present digest of an input that is no table of the platform, by its name and key.
        final: says of a month that it stays as it is, because the rows that it was made of are gone.
    """

    def now(table: str, key: str) -> str | None:
        return current[table, key][0] if (table, key) in current else None if table in TABLES else lookup(table, key)

    direct: dict[Partition, list[str]] = {}
    feeds: dict[Partition, set[Partition]] = {}
    for partition, (_, inputs) in current.items():
        if final(partition[1]):
            continue
        if not inputs:
            direct[partition] = ["what it was made of has not been recorded"]
            continue
        if partition[0] == "transaction_features":
            # Those from before this was recorded lack columns that there are now.
            inputs = {**features_inputs(None), **inputs}
        reasons = [
            reason
            for table, keys in inputs.items()
            for key, was in sorted(keys.items())
            if (reason := _difference(table, key, was, now(table, key))) is not None
        ]
        if reasons:
            direct[partition] = reasons
        for read in _read(inputs, current):
            if read != partition:
                feeds.setdefault(read, set()).add(partition)
    built_on = _spread(direct, feeds)
    return [
        Stale(*partition, tuple(direct.get(partition, ())), tuple(sorted(built_on.get(partition, ()), key=_place)))
        for partition in sorted(direct.keys() | built_on.keys(), key=_place)
    ]


def stale_since(before: Iterable[Stale], now: Sequence[Stale]) -> list[Stale]:
    """What has become stale since, and why: the changes that were not there before, and what is built on those months.

    Args:
        before: what was stale then. A month that was only built on something stale counts as new as soon as that has
            changed.
        now: what is stale now, as `find_stale` gives it.
    """
    known = {one.partition: one.changes for one in before}
    fresh = [
        replace(one, changes=tuple(change for change in one.changes if change not in known.get(one.partition, ())))
        for one in now
    ]
    feeds: dict[Partition, set[Partition]] = {}
    for one in fresh:
        for read in one.built_on:
            feeds.setdefault(read, set()).add(one.partition)
    built_on = _spread([one.partition for one in fresh if one.changes], feeds)
    return [
        replace(one, built_on=tuple(sorted(built_on.get(one.partition, ()), key=_place)))
        for one in fresh
        if one.changes or one.partition in built_on
    ]


def next_to_rebuild(
    stale: Sequence[Stale],
    given_up: Collection[Partition] = (),
    upstream: Mapping[str, Collection[str]] | None = None,
) -> list[Stale]:
    """The partitions to rebuild next: of the earliest month that has any, those that nothing stale comes before.

    What is only built on something stale waits for that: if it turns out unchanged, there is nothing to do.

    Args:
        stale: as found just now.
        given_up: partitions that will not be rebuilt, because that failed or was not asked for; what is built on
            them is rebuilt from what is stored, if it is stale for another reason too.
        upstream: of each table those that come before it in the graph. A month waits for theirs also where it did not
            read them the last time: an evaluation without a model looks at no features, and with one it does.
    """
    upstream = upstream or {}
    found = {one.partition: one for one in stale}
    waiting = {one.partition for one in stale if one.changes and one.partition not in given_up}
    grown = True
    while grown:
        more = {
            one.partition
            for one in stale
            if one.partition not in waiting and one.partition not in given_up and waiting.intersection(one.built_on)
        }
        waiting |= more
        grown = bool(more)
    ready = [
        found[table, month]
        for table, month in waiting
        if not waiting.intersection(found[table, month].built_on)
        and not waiting.intersection((before, month) for before in upstream.get(table, ()))
    ]
    first = min((one.month for one in ready), default="")
    return sorted((one for one in ready if one.month == first), key=lambda one: _place(one.partition))


def in_words(months: Iterable[str]) -> str:
    """Months with runs of them drawn together.

    >>> in_words(["2018-04", "2018-05", "2018-06", "2018-09"])
    '2018-04 to 2018-06, 2018-09'
    """
    runs: list[list[str]] = []
    for month in sorted(set(months)):
        if runs and shift_month(runs[-1][-1], 1) == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _difference(table: str, key: str, was: str | None, is_now: str | None) -> str | None:
    """What has changed about an input, as a sentence; None when nothing has."""
    if was == is_now:
        return None
    if table == "ledger":
        before = "none" if was is None else f"v{was}"
        return f"the champion before {key.removeprefix(CHAMPION)} was {before} and is " + (
            "none" if is_now is None else f"v{is_now}"
        )
    if is_now is None:
        return None
    if table == "earlier_ids":
        # One that no longer has such ids has changed itself, and is told of as that.
        arrived = set(is_now.split()) - set((was or "").split())
        return f"{in_words(arrived)} came later, with ids among those of {key}" if arrived else None
    if table == "contract":
        return "the contract has changed"
    if table == "features":
        return "how features are made has changed"
    if table in SETTINGS and key:
        return setting_changed(table, key, str(was), is_now)
    if table == "training":
        return "the settings of training have changed"
    if table == SCORES:
        return f"{int(is_now) - int(was or 0):,} scores of {key} have been kept since"
    if table == SHADOW:
        return f"{int(is_now) - int(was or 0):,} shadow scores of {key} have been kept since"
    if table == DRAWN:
        return f"what could be let through of {key} was {was} transactions, and is {is_now}"
    if table == "added_labels":
        return f"labels for {key} have been added since"
    if table == "quarantine_decisions":
        return f"what was decided about quarantined rows of {key} has changed"
    name = {"source": "the delivery of", "label_feed": "the label feed of"}.get(table, table)
    if was is None:
        return f"{name} {key} has arrived since"
    return f"{name} {key} has changed since (was {was[:8]}, is {is_now[:8]})"


def _read(inputs: Inputs, current: Mapping[Partition, object]) -> set[Partition]:
    """The stored partitions that were read; with a champion, the decisions that made it so."""
    read = {(table, key) for table, keys in inputs.items() for key in keys if (table, key) in current}
    for key in inputs.get("ledger", {}):
        before = key.removeprefix(CHAMPION)
        read |= {(table, month) for table, month in current if table == "champion" and month < before}
    return read


def _spread(direct: Iterable[Partition], feeds: Mapping[Partition, set[Partition]]) -> dict[Partition, set[Partition]]:
    """For each partition downstream of a stale one, the stale partitions it was made of."""
    built_on: dict[Partition, set[Partition]] = {}
    open_ends = list(direct)
    seen = set(open_ends)
    while open_ends:
        source = open_ends.pop()
        for reader in feeds.get(source, ()):
            built_on.setdefault(reader, set()).add(source)
            if reader not in seen:
                seen.add(reader)
                open_ends.append(reader)
    return built_on


def _told(built_on: Collection[Partition]) -> tuple[str, ...]:
    months: dict[str, list[str]] = {}
    for table, month in built_on:
        months.setdefault(table, []).append(month)
    return tuple(
        f"it was built on {table} {in_words(found)}, which {'is' if len(found) == 1 else 'are'} stale"
        for table, found in months.items()
    )


def _place(partition: Partition) -> tuple[str, int, str]:
    """By month, then in the order of the graph."""
    table, month = partition
    order = list(TABLES)
    return month, order.index(table) if table in order else len(order), table
