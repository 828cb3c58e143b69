"""Reasons are data: rule, column and text apart, where they were sentences joined by "; ", line breaks and spaces.

Each text is kept as it is. Which rule it is about is told from the wording that versions up to now had, here and
nowhere else; what is not recognised has the rule `earlier_version`. Months are migrated too, because the tables that
hold reasons have the same columns under every contract. A month that has changed gets a version of its own in
`month_versions`, with its new digest, and what was built on it one that names this digest: nothing becomes stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias, cast

import psycopg
import pyarrow as pa
from alembic import op
from psycopg import sql
from psycopg.types.json import Jsonb

from fraud_assets.core.digests import digest_table, digest_text

revision = "0003"
down_revision = "0002"

Said: TypeAlias = dict[str, str | None]
"""rule, text and column of a reason."""
Connection: TypeAlias = psycopg.Connection[Any]
Change: TypeAlias = tuple[str, str, int]
"""The digest of a month before, its digest now, and how many of its rows are others."""
Changes: TypeAlias = Iterator[tuple[tuple[str, str], Change]]
"""By table and month."""

EARLIER = "earlier_version"
OWN_COLUMNS = ("event_timestamp", "transaction_id", "is_fraud", "label_timestamp", "label_source")

# What follows the column's name; the first that fits.
OF_ROWS = (
    (r"is below ", "below_minimum"),
    (r"is above ", "above_maximum"),
    (r"is none of \[", "unknown_category"),
    (r"is none of .*: write one of them, or leave it empty$", "unknown_category"),
    (r"is none of .*: write one of them$|is neither fraud ", "unknown_label"),
    (r"does not match ", "pattern_mismatch"),
    (r"is missing for a |is missing: say when ", "label_time_missing"),
    (r"is missing$|is missing: ", "missing_value"),
    (r"lies outside the years |lies in an hour that the clocks of \S+ skip|is no day of Excel", "no_such_time"),
    (r"lies in an hour that the clocks of \S+ have twice", "ambiguous_time"),
    (r"lies outside \d{4}-\d{2}($|, the month of the file)", "outside_month"),
    (r"lies in no month of the contract|lies outside the months of contract ", "outside_contract"),
    (r"lies in the future", "in_the_future"),
    (r"appears earlier in the delivery$", "repeated_id"),
    (r"is already in \d{4}-\d{2}$", "id_of_earlier_month"),
    (r"lies before (the|its) transaction", "label_before_transaction"),
    (r"lies over \S+ days late$", "label_too_late"),
    (
        r"is (no|not|neither true|bytes that are no|beyond|written in scientific) |was delivered as a floating-point |"
        r"has (lost digits|nothing that extract|marks between|a decimal) |contains a zero byte|lacks a part ",
        "unreadable_value",
    ),
)
OF_REPORTS = (
    (r"^the world changed: |^the data look broken: |^the labels come otherwise than before: this goes ", "next_step"),
    (r"^and \d+ more, in the rows of the report$", "more_findings"),
    (r"^none of (the )?\d+ (checks|things that were looked at) moved beyond chance", "nothing_moved"),
    (r"^nothing could be compared$|^there is no champion yet, and no earlier month ", "nothing_compared"),
    (r"^\d+ features?,?( and so scores,)? could not be compared", "features_not_compared"),
    (r"^there is no champion yet, so |^the champion", "other_reference"),
)
OF_PROMOTIONS = (
    (r"^There is no challenger in ", "no_challenger"),
    (r"^Version \d+ is already the champion ", "already_champion"),
    (r"^The (challenger|champion), version \d+, was not evaluated ", "not_evaluated"),
    (r"^The window holds .* frauds are needed ", "too_few_frauds"),
    (r"^What the decisions of version \d+ are worth is unknown", "decisions_unknown"),
    (r"^How far the AP of version \d+ can be trusted is unknown", "precision_unknown"),
    (r"^The two models were not measured on the same transactions", "other_transactions"),
    (r"^The difference in AP between version ", "difference_unknown"),
    (r" decides nothing worth having: ", "useless"),
    (r" is clearly better than chance: ", "better_than_chance"),
    (r" is too close to chance: ", "not_better_than_chance"),
    (r" is not shown to be better than chance: ", "maybe_chance"),
    (r" is not shown to be better than the champion", "not_shown_better"),
    (r" is better than the champion", "better"),
    (r" is worse than the champion", "worse"),
)

OF_REPLAYS = (
    (r"^the model is \d+ months old; |^the report says |^a month is over$", "policy_asks"),
    (r"^not trained, the replay ends here$", "replay_ends"),
    (r"^not trained: ", "not_trained"),
    (r"^judged without [\d,]+ transactions ", "partly_judged"),
    (r"^\d+ of \d+ months could be judged$", "months_judged"),
    (r"^\d{4}-\d\d-\d\d to \S+ has [\d,]+ matured transactions", "not_judged"),
)


def upgrade() -> None:
    """Turns every reason that is stored, in the transaction of the upgrade."""
    connection = cast("Connection", op.get_bind().connection.driver_connection)
    _labels(connection)
    _ledger(connection)
    changed: dict[tuple[str, str], Change] = {}
    for migrate in (_quarantined, _promotions, _reports, _backtests):
        changed |= dict(migrate(connection))
    _record(connection, changed)


# Rows


def _quarantined(connection: Connection) -> Changes:
    table, stored = "quarantined_transactions", "public.quarantined_transactions"
    names = {*_columns(connection, "raw_transactions"), *OWN_COLUMNS}
    for month in _months(connection, table):
        # Of a line that is no row, the number and the text are kept.
        found = connection.execute(
            f"SELECT DISTINCT reasons, {IS_LINE} FROM {stored} WHERE month = %s", [f"{month}-01"]
        ).fetchall()
        said = [(reasons, is_line, json_of(reasons_of_row(reasons, names, is_line))) for reasons, is_line in found]
        written = connection.execute(
            f"UPDATE {stored} AS t SET reasons = said.now "
            "FROM unnest(%s::text[], %s::boolean[], %s::text[]) AS said (was, is_line, now) "
            f"WHERE t.month = %s AND t.reasons = said.was AND {IS_LINE} = said.is_line",
            [*([list(column) for column in zip(*said, strict=True)] or [[], [], []]), f"{month}-01"],
        )
        yield (table, month), _digests(connection, table, month, ("source", "row_number"), written.rowcount)


# By the text, because jsonb refuses the zero characters that a row may have.
IS_LINE = """(original ~ '^[{]"line": [0-9]+, "text": "')"""


def _labels(connection: Connection) -> None:
    found = connection.execute(
        "SELECT number, file, row_number, reasons, original, refusal FROM public.quarantined_labels"
    )
    rows = found.fetchall()
    connection.execute("ALTER TABLE public.quarantined_labels ALTER COLUMN reasons TYPE jsonb USING '[]'::jsonb")
    taken = {refusal for *_, refusal in rows}
    for number, file, row_number, joined, original, refusal in rows:
        said = reasons_of_label_row(joined, json.loads(original))
        broken = [part or "" for one in said for part in (one["rule"], one["column"])]
        named = digest_text(file, str(row_number), original, *broken)
        # Of one row that two versions refused in other words, the later one keeps its name.
        named = refusal if named in taken else named
        taken.add(named)
        connection.execute(
            "UPDATE public.quarantined_labels SET reasons = %s, refusal = %s WHERE number = %s",
            [Jsonb(said), named, number],
        )


def reasons_of_row(joined: str, names: Iterable[str], is_line: bool) -> list[Said]:
    """Why a row of a delivery is in quarantine.

    Args:
        joined: as it was stored.
        names: the columns that a sentence may begin with.
        is_line: whether it is a line that is no row.
    """
    said = _about_columns(joined, names)
    if is_line and said[0]["column"] is None:
        return [_reason("not_a_row", joined)]
    return said


def reasons_of_label_row(joined: str, original: Mapping[str, Any]) -> list[Said]:
    """Why a row of a label file was refused."""
    if joined.startswith("the line ") and set(original) == {"line", "text"}:
        return [_reason("not_a_row", joined)]
    # A time of several columns was named by all of them.
    several = [" ".join(pair) for one in original for other in original if (pair := (one, other)) and one != other]
    return _about_columns(joined, [*original, *several, *OWN_COLUMNS])


def _about_columns(joined: str, names: Iterable[str]) -> list[Said]:
    """Sentences that each begin with a column's name; a "; " before anything else is a part of one."""
    between, beginning = _patterns(tuple(names))
    said = []
    for text in between.split(joined):
        named = beginning.match(text)
        rest = text[named.end() :] if named else text
        rule = next((rule for pattern, rule in OF_ROWS if re.match(pattern, rest, re.DOTALL)), EARLIER)
        said.append(_reason(rule if named else EARLIER, text, named and named.group(1)))
    return said


@cache
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What stands between two sentences, and the name that one begins with."""
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"; (?=(?:{known}) )"), re.compile(rf"({known}) ")


# Decisions and reports


def _ledger(connection: Connection) -> None:
    rows = connection.execute("SELECT number, kind, reasons, evidence FROM public.ledger").fetchall()
    connection.execute("ALTER TABLE public.ledger ALTER COLUMN reasons TYPE jsonb USING '[]'::jsonb")
    for number, kind, joined, evidence in rows:
        said = reason_of_event(kind, joined, by_hand="by hand" in (evidence or {}))
        connection.execute("UPDATE public.ledger SET reasons = %s WHERE number = %s", [Jsonb([said]), number])


def reason_of_event(kind: str, joined: str, *, by_hand: bool) -> Said:
    """Why an event of the ledger happened: one reason, because sentences joined by a space cannot be told apart."""
    if by_hand or kind == "registered":
        return _reason("by_hand" if by_hand else "trained", joined)
    return _told(joined, OF_PROMOTIONS)


def _promotions(connection: Connection) -> Changes:
    table = "champion"
    for month in _months(connection, table):
        day = f"{month}-01"
        for (joined,) in connection.execute("SELECT reasons FROM public.champion WHERE month = %s", [day]).fetchall():
            said = json_of([_told(text, OF_PROMOTIONS) for text in joined.split("\n")])
            connection.execute("UPDATE public.champion SET reasons = %s WHERE month = %s", [said, day])
        yield (table, month), _digests(connection, table, month, (), 1)


def _reports(connection: Connection) -> Changes:
    table = "drift_report"
    if _columns(connection, table):
        connection.execute("ALTER TABLE public.drift_report ADD COLUMN IF NOT EXISTS reasons text")
    for month in _months(connection, table):
        of_month = [f"{month}-01"]
        found = connection.execute(
            "SELECT kind, feature, reason FROM public.drift_report WHERE month = %s AND kind <> 'verdict'", of_month
        ).fetchall()
        verdicts = connection.execute(
            "SELECT reason FROM public.drift_report WHERE month = %s AND kind = 'verdict'", of_month
        ).fetchall()
        for (joined,) in verdicts:
            connection.execute(
                "UPDATE public.drift_report SET reason = '', reasons = %s WHERE month = %s AND kind = 'verdict'",
                [json_of(reasons_of_verdict(joined, found)), *of_month],
            )
        yield (table, month), _digests(connection, table, month, ("kind", "feature", "segment"), len(verdicts))


def _backtests(connection: Connection) -> Changes:
    table = "backtest"
    if "reason" in _columns(connection, table):
        connection.execute("ALTER TABLE public.backtest RENAME COLUMN reason TO reasons")
    for month in _months(connection, table):
        of_month = [f"{month}-01"]
        found = connection.execute("SELECT DISTINCT reasons FROM public.backtest WHERE month = %s", of_month).fetchall()
        altered = 0
        for (joined,) in found:
            written = connection.execute(
                "UPDATE public.backtest SET reasons = %s WHERE month = %s AND reasons = %s",
                [json_of(reasons_of_replay(joined)), *of_month, joined],
            )
            altered += written.rowcount
        yield (table, month), _digests(connection, table, month, ("kind", "policy"), altered)


def reasons_of_replay(joined: str) -> list[Said]:
    """Why a model was trained in a month of a backtest or not, and what of the month could be judged."""
    pieces = re.split(r"; (?=not trained[,:] |judged without [\d,]+ |\d{4}-\d\d-\d\d to \S+ has [\d,]+ )", joined)
    return [_told(text, OF_REPLAYS) for text in pieces if text]


def reasons_of_verdict(joined: str, findings: Sequence[tuple[str, str, str]]) -> list[Said]:
    """Why a month's verdict is as it is.

    Args:
        joined: one reason a line.
        findings: kind, feature and reason of each row of the report; a reason may have several lines.
    """
    known = {reason: (kind, feature or None) for kind, feature, reason in reversed(findings) if reason}
    longest_first = sorted(known, key=len, reverse=True)
    said, rest = [], f"{joined}\n"
    while rest:
        own = next((text for text in longest_first if rest.startswith(f"{text}\n")), None)
        text = own if own is not None else rest.split("\n", 1)[0]
        rest = rest[len(text) + 1 :]
        said.append(_told(text, OF_REPORTS) if own is None else _reason(known[own][0], text, known[own][1]))
    return said


def _told(text: str, wordings: Sequence[tuple[str, str]]) -> Said:
    return _reason(next((rule for pattern, rule in wordings if re.search(pattern, text)), EARLIER), text)


def _reason(rule: str, text: str, column: str | None = None) -> Said:
    return {"rule": rule, "text": text, "column": column}


def json_of(said: Sequence[Said]) -> str:
    """As a column of text keeps reasons."""
    return json.dumps(said, ensure_ascii=False)


# Months


def _columns(connection: Connection, table: str) -> dict[str, str]:
    """A table's columns with their types; none where there is no such table."""
    found = connection.execute(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [f"public.{table}"],
    )
    return dict(found.fetchall())


def _months(connection: Connection, table: str) -> list[str]:
    """The months of a table that are stored."""
    if not _columns(connection, table):
        return []
    found = connection.execute(
        "SELECT DISTINCT month FROM public.month_versions WHERE table_name = %s ORDER BY 1", [table]
    )
    return [month for (month,) in found]


def _digests(connection: Connection, table: str, month: str, order: Sequence[str], altered: int) -> Change:
    """The digest that a month has in `month_versions`, the one of its rows as they are now, and the rows altered."""
    (before,) = connection.execute(
        "SELECT digest FROM public.month_versions WHERE table_name = %s AND month = %s ORDER BY id DESC LIMIT 1",
        [table, month],
    ).fetchone() or ("",)
    kinds = {
        "bigint": pa.int64(), "double precision": pa.float64(), "text": pa.string(), "boolean": pa.bool_(),
        "date": pa.date32(),
    }  # fmt: skip
    columns = _columns(connection, table)
    # Text by its bytes and what is missing last, as the rows of a month are ordered.
    ordered = [
        sql.SQL('{} COLLATE "C"' if columns[name] == "text" else "{}").format(sql.Identifier(name)) for name in order
    ]
    rows = connection.execute(
        sql.SQL("SELECT {} FROM {} WHERE month = {}{}{}").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier("public", table),
            sql.Literal(f"{month}-01"),
            sql.SQL(" ORDER BY " if order else ""),
            sql.SQL(", ").join(ordered),
        )
    ).fetchall()
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    stored = pa.table(
        {name: pa.array(column, kinds[columns[name]]) for name, column in zip(columns, values, strict=True)}
    )
    return before, digest_table(stored), altered


def _record(connection: Connection, changed: Mapping[tuple[str, str], Change]) -> None:
    """Versions of the months that have changed, and of those that were made of them."""
    current = connection.execute(
        "SELECT DISTINCT ON (table_name, month) table_name, month, digest, n_rows, inputs FROM public.month_versions "
        "ORDER BY table_name, month, id DESC"
    ).fetchall()
    for table, month, digest, n_rows, inputs in current:
        _, now, altered = changed.get((table, month), (digest, digest, 0))
        named = _renamed(inputs, changed)
        if (now, named) != (digest, inputs):
            connection.execute(
                "INSERT INTO public.month_versions "
                "(table_name, month, digest, n_rows, inputs, added, removed, altered) "
                "VALUES (%s, %s, %s, %s, %s, 0, 0, %s)",
                [table, month, now, n_rows, None if named is None else Jsonb(named), altered if now != digest else 0],
            )


def _renamed(inputs: Mapping[str, Any] | None, changed: Mapping[tuple[str, str], Change]) -> dict[str, Any] | None:
    """What a month was made of, with the new digests in the place of those that they follow."""
    if inputs is None:
        return None
    return {
        table: {
            month: changed[table, month][1]
            if (table, month) in changed and digest == changed[table, month][0]
            else digest
            for month, digest in months.items()
        }
        for table, months in inputs.items()
    }
