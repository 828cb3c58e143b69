"""Alerts in the outside world: where facts are found, the tables they are kept in, and the channels they go out on.

A fact is kept once, under its key, with the channels that it is owed to; each attempt to send is a row of its own, and
neither table is ever changed. What is worth an alert, what it says and when it is sent again belong to
`core/decisions/alerts.py`.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import dagster as dg

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.alerts import (
    AlertPolicy,
    Delivery,
    Fact,
    Failure,
    MonthRows,
    SendAttempt,
    breaker_fact,
    data_facts,
    drift_fact,
    due,
    hide_passwords,
    message,
    promotion_fact,
    run_fact,
    run_of,
)
from fraud_assets.core.monitoring.verdict import in_sentences
from fraud_assets.core.reasons import Reason, Rule, read_reasons
from fraud_assets.workflows.quarantine import count_reasons
from fraud_assets.workflows.runs.run_months import error_in_words

REPORT = dg.AssetKey("drift_report")
REASONS = "reasons_as_data"
"""What a report's reasons are called in its metadata; `reasons` there is for people."""
PAGE = 100
# Dagster gives a sensor 60 s, and one message to a channel that does not answer takes up to 15.
SECONDS = 30

DELIVERIES = """
SELECT kind, alerts.fact_key, month, sentence, link, happened_at, owed.channel,
    coalesce(array_agg(attempted_at ORDER BY tried.number) FILTER (WHERE tried.number IS NOT NULL), '{}'),
    coalesce(array_agg(error ORDER BY tried.number) FILTER (WHERE tried.number IS NOT NULL), '{}')
FROM alerts CROSS JOIN LATERAL unnest(channels) WITH ORDINALITY AS owed (channel, place)
LEFT JOIN alert_attempts AS tried ON tried.fact_key = alerts.fact_key AND tried.channel = owed.channel
WHERE alerts.number > (SELECT coalesce(max(number), 0) FROM alerts) - %(newest)s
GROUP BY alerts.number, owed.channel, owed.place
HAVING %(all)s OR NOT coalesce(bool_or(tried.number IS NOT NULL AND tried.error IS NULL), false)
ORDER BY alerts.number, owed.place
"""
EVERYTHING = 2**62


class AlertStore:
    """Keeps facts and the attempts to send them."""

    def __init__(self, database: Database) -> None:
        """Binds the tables to a database."""
        self.database = database

    def record(self, facts: Iterable[Fact], channels: Sequence[str]) -> int:
        """Keeps facts that are not known yet; each is owed to the channels that there are now.

        Returns:
            How many were new.
        """
        rows = [[fact.key, fact.kind, fact.month, fact.sentence, fact.link, fact.at, list(channels)] for fact in facts]
        new = 0
        with self.database.session() as connection:
            for row in rows:
                new += connection.execute(
                    "INSERT INTO alerts (fact_key, kind, month, sentence, link, happened_at, channels) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (fact_key) DO NOTHING",
                    row,
                ).rowcount
        return new

    def record_attempt(self, deliveries: Iterable[Delivery], at: datetime, error: str | None) -> None:
        """Keeps that some facts were sent to their channel, or what went wrong."""
        with self.database.session() as connection:
            connection.cursor().executemany(
                "INSERT INTO alert_attempts (fact_key, channel, attempted_at, error) VALUES (%s, %s, %s, %s)",
                [[delivery.fact.key, delivery.channel, at, error] for delivery in deliveries],
            )

    def undelivered(self) -> list[Delivery]:
        """What has not arrived yet, the oldest fact first."""
        return self._deliveries(newest=EVERYTHING, everything=False)

    def deliveries(self, newest: int) -> list[Delivery]:
        """All deliveries of the newest facts, the oldest fact first."""
        return self._deliveries(newest=newest, everything=True)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Says whether nobody else is sending; others are kept from it until the end."""
        # A tick that Dagster has given up waiting for still runs beside the next one.
        with self.database.session() as connection:
            locked = connection.execute("SELECT pg_try_advisory_xact_lock(hashtext('fraud_assets.alerts'))").fetchone()
            yield bool(locked and locked[0])

    def _deliveries(self, *, newest: int, everything: bool) -> list[Delivery]:
        rows = self.database.rows("alerts", DELIVERIES, {"newest": newest, "all": everything})
        return [
            Delivery(Fact(*fact), channel, tuple(map(SendAttempt, times, errors)))
            for *fact, channel, times, errors in rows
        ]


@dataclass(frozen=True)
class Channel:
    """Where messages go.

    Attributes:
        name: its scheme, and its host where that is no secret; the second of two with the same name ends in `(2)`.
        send: takes subject and body; returns what went wrong, without secrets, and None when the message was taken.
    """

    name: str
    send: Callable[[str, str], str | None]


def open_channels(urls: str) -> list[Channel]:
    """The channels of `FRAUD_ALERT_URLS`; nothing is sent yet.

    One that apprise cannot read is a channel too, of which every attempt fails and says so.
    """
    # Here: the definitions load without it.
    import apprise

    asset = apprise.AppriseAsset(app_id="fraud-assets", app_desc="fraud-assets", async_mode=False)
    channels: list[Channel] = []
    names: dict[str, int] = {}
    for place, url in enumerate(urls.split(), 1):
        with _Heard(), warnings.catch_warnings():
            # apprise 2.3 imports imghdr, which Python 3.11 and 3.12 deprecate; goes when it does not.
            warnings.simplefilter("ignore", DeprecationWarning)
            service = apprise.Apprise.instantiate(url, asset=asset)
        name = _name(url, service) or f"address {place}"
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name} ({names[name]})"
        channels.append(Channel(name, _sender(url, service, name)))
    return channels


def _name(url: str, service: Any) -> str:
    """Scheme and host; only the scheme where apprise knows of no host, because a token stands in its place."""
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[a-z0-9]+", scheme):
        return ""
    described = service.template_tokens.get("host") if service else None
    if not described or described.get("private") or not service.host:
        return f"{scheme}://"
    return f"{scheme}://{service.host}" + (f":{service.port}" if service.port else "")


def _sender(url: str, service: Any, name: str) -> Callable[[str, str], str | None]:
    import apprise

    if service is None:
        return lambda *_: (
            f"apprise cannot read the address {name} in FRAUD_ALERT_URLS: compare it with apprise's documentation"
        )
    if "overflow=" not in url:
        # A message that is too long for a channel would else be refused each time.
        service.overflow_mode = apprise.OverflowMode.SPLIT
    sending = apprise.Apprise(asset=service.asset)
    sending.add(service)

    def send(subject: str, body: str) -> str | None:
        with _Heard() as heard:
            sent = sending.notify(body, subject, notify_type=apprise.NotifyType.WARNING, body_format="text")
        if sent:
            return None
        return _without_secrets("; ".join(heard.said) or "apprise did not say why", url, name)

    return send


class _Heard(logging.Filter):
    """Hears what apprise logs, and lets none of it through: an address in a log would be a password in a log."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._apprise = logging.getLogger("apprise")
        self._requests = logging.getLogger("urllib3.connectionpool")

    def __enter__(self) -> Self:
        self._levels = self._apprise.level, self._requests.level
        # Why a connection failed is told at this level only; the path of a request too, and it often holds the token.
        self._apprise.setLevel(logging.DEBUG)
        self._requests.setLevel(logging.INFO)
        self._apprise.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._apprise.removeFilter(self)
        self._apprise.setLevel(self._levels[0])
        self._requests.setLevel(self._levels[1])

    def filter(self, record: logging.LogRecord) -> bool:
        text = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING or "Exception:" in text:
            self.said.append(text)
        return False


def _without_secrets(text: str, url: str, name: str) -> str:
    """The text, with every part of an address that may be a secret hidden; what names the channel stays."""
    _, _, rest = url.partition("://")
    pieces = {piece for piece in re.split(r"[/:@?&=,]|\+|%40|%2[fF]", rest) if len(piece) > 2}
    pieces |= {unquote(piece) for piece in pieces} | {quote(piece, safe="") for piece in pieces}
    shown = set(re.split(r"[/: ]", name)) | set(QUERY_NAMES.findall(urlsplit(url).query))
    for piece in sorted(pieces - shown, key=len, reverse=True):
        text = text.replace(piece, "***")
    return hide_passwords(text)[:500]


QUERY_NAMES = re.compile(r"(?:^|&)([^=&]+)=")


@dataclass(frozen=True)
class Sent:
    """One message, or one that did not arrive.

    Attributes:
        channel: where it went.
        deliveries: what it told, each with this attempt as its last.
        error: what went wrong; None when it arrived.
        given_up: how many of them are not tried again.
    """

    channel: str
    deliveries: tuple[Delivery, ...]
    error: str | None
    given_up: int

    @property
    def sentence(self) -> str:
        """What came of it."""
        told = f"{len(self.deliveries)} alert{'s' if len(self.deliveries) > 1 else ''}"
        if self.error is None:
            return f"{told} sent to {self.channel}"
        then = f"; {self.given_up} given up: see `fraud alerts list`" if self.given_up else ""
        return f"{told} not taken by {self.channel}: {self.error}{then}"


def deliver(
    store: AlertStore,
    channels: Sequence[Channel],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    policy: AlertPolicy | None = None,
) -> list[Sent]:
    """Sends what is due, one message a channel, and keeps what came of each at once.

    A process that is killed after a channel has taken a message and before that is kept sends this one message a second
    time; nothing else is ever sent twice, and nothing is lost. A channel that fails does not raise.
    """
    policy, done, started = policy or AlertPolicy(), list[Sent](), time.monotonic()
    by_name = {channel.name: channel for channel in channels}
    with store.alone() as alone:
        owed = [delivery for delivery in store.undelivered() if delivery.channel in by_name] if alone else []
        for name, batch in due(owed, now(), policy).items():
            if time.monotonic() - started > SECONDS:
                break
            error = by_name[name].send(*message([delivery.fact for delivery in batch]))
            attempt = SendAttempt(now(), error)
            store.record_attempt(batch, attempt.at, error)
            tried = tuple(Delivery(one.fact, name, (*one.attempts, attempt)) for one in batch)
            done.append(Sent(name, tried, error, sum(one.state(policy) == "given_up" for one in tried)))
    return done


def list_alerts(store: AlertStore, channels: Sequence[Channel], limit: int) -> list[dict[str, Any]]:
    """The newest facts, newest first, as plain values, each with where it was sent.

    Returns:
        For each fact `kind`, `month`, `sentence`, `link`, `at` and `deliveries`: `channel`, `state` (waiting,
        delivered, given_up; or unset, when the setting names the channel no longer and it is owed to it),
        `delivered_at`, `attempts`, `last_error`, `next_attempt_at`.
    """
    policy, configured = AlertPolicy(), {channel.name for channel in channels}
    facts: dict[str, dict[str, Any]] = {}
    for delivery in reversed(store.deliveries(limit)):
        fact, state = delivery.fact, delivery.state(policy)
        waits = state == "waiting" and delivery.channel in configured
        listed = facts.setdefault(
            fact.key,
            {
                "kind": fact.kind,
                "headline": fact.headline,
                "month": fact.month,
                "sentence": fact.sentence,
                "link": fact.link,
                "at": fact.at,
                "deliveries": [],
            },
        )
        listed["deliveries"].insert(
            0,
            {
                "channel": delivery.channel,
                "state": "unset" if state == "waiting" and not waits else state,
                "delivered_at": delivery.delivered_at,
                "attempts": len(delivery.attempts),
                "last_error": delivery.last_error,
                "next_attempt_at": delivery.next_attempt_at(policy) if waits else None,
            },
        )
    return list(facts.values())


@dataclass(frozen=True)
class Found:
    """Facts, and the cursor after which to look for the next ones."""

    facts: list[Fact]
    cursor: str


def find_facts(
    instance: dg.DagsterInstance, database: Database, contract: Contract, ui_url: str | None, cursor: str | None
) -> Found:
    """What has happened since the cursor; without one, only the drift of the newest month, if it is open now.

    Facts are found again when the same cursor is used again: `AlertStore.record` keeps each once.

    Args:
        instance: whose event log to read.
        database: has the ledger and the quarantine.
        contract: says how much quarantine is too much.
        ui_url: address of the UI, for links.
        cursor: as an earlier call returned it.
    """
    # Before anything is read, so that what happens meanwhile is found again and not passed over.
    newest = instance.event_log_storage.get_maximum_record_id() or 0
    events = LedgerStore(database).events()
    last_event = max((event.number for event in events), default=0)
    breakers = _breakers(database)
    last_breaker = max((number for number, *_ in breakers), default=0)
    links = _Links(ui_url)
    if not cursor:
        return Found(_open_drift(instance, links), f"{newest} {last_event} {last_breaker}")
    # One of an earlier version knows of no breaker.
    after, decided, broken = map(int, f"{cursor} 0".split()[:3])
    facts = [
        *_drifts(instance, after, links),
        *_data(instance, database, contract, after, links),
        *_runs(instance, after, links),
        *(
            fact
            for event in events
            if event.number > decided
            if (fact := promotion_fact(event, link=links.decision(event.month, event.actor)))
        ),
        *(breaker_fact(number, said, mode, at=at) for number, said, mode, at in breakers if number > broken),
    ]
    return Found(
        sorted(facts, key=lambda fact: fact.at),
        f"{max(newest, after)} {max(last_event, decided)} {max(last_breaker, broken)}",
    )


def _breakers(database: Database) -> list[tuple[int, str, str, datetime]]:
    """The times when a service's breaker opened."""
    rows = database.rows(
        "breaker_events",
        "SELECT number, said, mode, recorded_at FROM breaker_events WHERE event = 'opened' ORDER BY number",
    )
    return [(number, said, mode, at) for number, said, mode, at in rows]


class _Links:
    """Addresses in the UI; none when its own is not known."""

    def __init__(self, ui_url: str | None) -> None:
        self._ui = ui_url.rstrip("/") if ui_url else None

    def run(self, run_id: str) -> str | None:
        return self._ui and f"{self._ui}/runs/{run_id}"

    def month(self, asset: str, month: str) -> str | None:
        return self._ui and f"{self._ui}/assets/{asset}?view=partitions&partition={month}"

    def decision(self, month: str, actor: str) -> str | None:
        run_id = run_of(actor)
        return self.run(run_id) if run_id else self.month("champion", month)


def _open_drift(instance: dg.DagsterInstance, links: _Links) -> list[Fact]:
    months = instance.get_materialized_partitions(REPORT)
    if not months:
        return []
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=REPORT, asset_partitions=[max(months)]), limit=1
    ).records
    return [fact for record in records if (fact := _drift(record, links))]


def _drifts(instance: dg.DagsterInstance, after: int, links: _Links) -> Iterator[Fact]:
    page: str | None = None
    while True:
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=REPORT, after_storage_id=after), limit=PAGE, cursor=page, ascending=True
        )
        for record in found.records:
            if fact := _drift(record, links):
                yield fact
        if not found.has_more:
            return
        page = found.cursor


def _drift(record: dg.EventLogRecord, links: _Links) -> Fact | None:
    written = record.asset_materialization
    said = {name: str(value.value) for name, value in (written.metadata if written else {}).items()}
    # One that was reported by hand in the UI may say nothing.
    if record.partition_key is None or not {"drift_status", "digest"} <= said.keys():
        return None
    link = links.month("drift_report", record.partition_key)
    return drift_fact(
        record.partition_key, said["drift_status"], said.get("blame"), said["digest"], _sentences(written),
        link=link, at=_time(record),
    )  # fmt: skip


def _sentences(written: dg.AssetMaterialization | None) -> list[str]:
    """What a report says, from what was written with it."""
    metadata: dict[str, Any] = {name: value.value for name, value in (written.metadata if written else {}).items()}
    if (reasons := metadata.get(REASONS)) is None:
        # Reported by an earlier version, which wrote the sentences for people only: they are told as they are.
        return [str(said)] if (said := metadata.get("reasons")) else []
    has_champion = metadata.get("champion_version") is not None
    return in_sentences(metadata.get("blame"), read_reasons(reasons), has_champion=has_champion)


def _data(
    instance: dg.DagsterInstance, database: Database, contract: Contract, after: int, links: _Links
) -> Iterator[Fact]:
    while True:
        # Of the storage: the instance has no call that gives the evaluations after an event.
        records = instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=after),
            limit=PAGE,
            ascending=True,
        )
        for record in records:
            after = record.storage_id
            event = record.event_log_entry.dagster_event
            evaluation: Any = event.event_specific_data if event else None
            if (evaluation.asset_key.path, evaluation.check_name) != (["raw_transactions"], "nothing_lost"):
                continue
            counted = evaluation.metadata.get("rows")
            for month, rows in _counted(counted.value if counted else None, database):
                link = links.month("raw_transactions", month)
                yield from data_facts(month, rows, contract.quarantine_limit, link=link, at=_time(record))
        if len(records) < PAGE:
            return


def _counted(rows: Any, database: Database) -> Iterator[tuple[str, MonthRows]]:
    if not isinstance(rows, Mapping):
        return
    for month, counts in rows.items():
        listed = count_reasons(database, month)
        yield (
            month,
            MonthRows(
                delivered=counts["delivered"],
                stored=counts["raw_transactions"],
                quarantined=counts["quarantined_transactions"],
                dropped=_dropped(database, month) if counts["quarantined_transactions"] else 0,
                reasons=tuple(
                    (Reason(Rule(row["rule"]), row["reason"], row["column"]), row["rows"])
                    for row in listed
                    if row["status"] == "quarantined"
                ),
            ),
        )


def _dropped(database: Database, month: str) -> int:
    counted = database.rows(
        "quarantined_transactions",
        "SELECT count(*) FROM quarantined_transactions WHERE month = to_date(%s, 'YYYY-MM') AND status = 'dropped'",
        [month],
    )
    return int(counted[0][0]) if counted else 0


def _runs(instance: dg.DagsterInstance, after: int, links: _Links) -> Iterator[Fact]:
    page: str | None = None
    while True:
        found = instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=after),
            limit=PAGE,
            cursor=page,
            ascending=True,
        )
        for record in found.records:
            yield _run(instance, record, links)
        if not found.has_more:
            return
        page = found.cursor


def _run(instance: dg.DagsterInstance, record: dg.EventLogRecord, links: _Links) -> Fact:
    run_id = record.run_id
    failures = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        if event := entry.dagster_event:
            failures.append(Failure(event.step_key or "", *error_in_words(event.step_failure_data.error)))
    run = instance.get_run_by_id(run_id)
    job = "the asset graph" if run is None or run.job_name.startswith("__") else run.job_name
    month = run.tags.get("dagster/partition") if run else None
    return run_fact(run_id, job, month, failures, link=links.run(run_id), at=_time(record))


def _time(record: dg.EventLogRecord) -> datetime:
    return datetime.fromtimestamp(record.timestamp, UTC)
