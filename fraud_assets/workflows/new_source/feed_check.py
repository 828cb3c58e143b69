"""What is wrong with a label feed, for those who ask: before a first run, and afterwards.

Without its labels a month has no fraud, which looks like good news. What a feed's rows mean belongs to
`core/labels/feed.py`, what is made of them to `workflows/labels.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from fraud_assets.adapters.files.reader import SourceError
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource, Source
from fraud_assets.core.contracts.contract import Contract, ContractError
from fraud_assets.core.labels.feed import RefusedFor, by_reason, commonest_reason, feed_refusal
from fraud_assets.workflows.labels import feed_files, read_feed, refused_rows

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class FeedCheck:
    """What a contract makes of a month's label feed.

    Attributes:
        files: those that were read.
        n_read, n_taken, n_refused: rows.
        n_fraud: rows that say fraud, and can be used.
        reasons: why rows would be refused, most frequent first.
        refused: why the month's labels would be refused whole, or that there is no file.
    """

    files: list[str]
    n_read: int
    n_taken: int
    n_refused: int
    n_fraud: int
    reasons: list[RefusedFor]
    refused: str | None


def check_feed(contract: Contract, source: Source, month: str, now: datetime | None = None) -> FeedCheck | None:
    """Applies a contract to its label feed of a month, or of the first month that has one; nothing is written.

    Args:
        contract: what to keep to.
        source: where the feed lies.
        month: which is looked for first.
        now: the present moment; nothing can have become known after it.

    Returns:
        None where the contract has no feed.
    """
    feed = contract.label.feed
    if feed is None:
        return None
    try:
        files = feed_files(source, contract, month)
        if not files:
            month = _first_month(contract, source) or month
            files = feed_files(source, contract, month)
        if not files:
            sentence = (
                f"there is no file {feed.file_pattern.format(month=month)!r} with labels, nor one of another month: "
                "without them no fraud is known; put the files beside those of the transactions, or correct "
                "label.feed.file_pattern"
            )
            return FeedCheck([], 0, 0, 0, 0, [], sentence)
        read = read_feed(contract, feed, files, month, now or datetime.now(UTC))
    except (SourceError, ContractError) as error:
        return FeedCheck([], 0, 0, 0, 0, [], f"the labels of {month} would be refused: {error}")
    refused = pa.concat_tables([one.refused for one in read])
    return FeedCheck(
        [path.name for path in files],
        sum(one.n_read for one in read),
        sum(one.taken.num_rows for one in read),
        refused.num_rows,
        sum(one.n_fraud - one.n_fraud_refused for one in read),
        by_reason(refused),
        feed_refusal(read, contract, month),
    )


def _first_month(contract: Contract, source: Source) -> str | None:
    """The first month of which there is a file of labels."""
    if contract.label.feed is None or not isinstance(source, FolderSource):
        return None
    pattern = contract.label.feed.file_pattern
    found = {
        month.group()
        for path in source.folder.glob(pattern.replace("{month}", "*"))
        for month in MONTH.finditer(path.name)
        if fnmatchcase(path.name, pattern.format(month=month.group()).rpartition("/")[2])
    }
    return min(found, default=None)


def feed_findings(store: MonthStore) -> list[dict[str, Any]]:
    """What is wrong with the label feed of the stored months: `month`, `sentence`; the oldest first.

    Args:
        store: the tables; nothing else is read, so that the source may be away.
    """
    feed = store.contract.label.feed
    if feed is None:
        return []
    refused = refused_rows(store.database)
    made: Mapping[str, Any] = {
        month: inputs for (table, month), (_, inputs) in store.current().items() if table == "fraud_labels"
    }
    found = []
    for month in store.months("raw_transactions"):
        name = feed.file_pattern.format(month=month)
        mine = refused.filter(pa.array([fnmatchcase(file, name) for file in refused["file"].to_pylist()], pa.bool_()))
        if month in made and (made[month] or {}).get("label_feed", {}).get(month, "") is None:
            sentence = f"the label feed has no file {name!r}, so its frauds are not known"
        elif mine.num_rows:
            sentence = f"{mine.num_rows:,} rows of the label feed cannot be used: {commonest_reason(mine)}"
        elif month not in made:
            sentence = "there are no labels yet: fraud_labels has not been made for it"
        else:
            continue
        found.append({"month": month, "sentence": sentence})
    return found
