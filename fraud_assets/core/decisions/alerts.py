"""Alerts: what is worth one, what it says, and when a channel that did not answer is tried again.

Pure decisions on frozen dataclasses. Finding what happened, keeping it and sending it belong to `workflows/alerts.py`,
the sensor to `defs/alerts.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.digests import digest_text
from fraud_assets.core.intake.quarantine import FIRST_ROWS
from fraud_assets.core.reasons import Reason, Rule, joined
from fraud_assets.core.words import percent

FactKind = Literal["drift", "broken_data", "refused_promotion", "waiting_promotion", "failed_run", "breaker"]
DeliveryState = Literal["waiting", "delivered", "given_up"]

REFUSALS = frozenset({"IntakeError", "ContractError", "SourceError"})
"""The errors with which a month's delivery is refused: a matter of the data's owner, not of the platform."""

LONGEST_SENTENCE = 700
HEADLINES: dict[FactKind, str] = {
    "drift": "drift",
    "broken_data": "broken data",
    "refused_promotion": "new model refused",
    "waiting_promotion": "new model waits",
    "failed_run": "failed run",
    "breaker": "the breaker is open",
}
NEXT_STEPS: dict[FactKind, str] = {
    "drift": "See what moved with `fraud drift {month}`.",
    "broken_data": "For whoever owns the source. Rows that are held back: `fraud quarantine list --month {month}`; "
    "what moved: `fraud drift {month}`.",
    "refused_promotion": "See the decision with `fraud status`.",
    "waiting_promotion": "`fraud status` says until when, and how to answer.",
    "failed_run": "",
    "breaker": "",
}


@dataclass(frozen=True)
class Fact:
    """Something that people are told of, once.

    Attributes:
        kind: what it is.
        key: names it, so that the same fact found again is the same.
        month: the month it is about, YYYY-MM; None when it is about none, or several.
        sentence: what happened, for a fraud analyst; without passwords.
        link: where to look; None when no address of the UI is set.
        at: when it happened.
    """

    kind: FactKind
    key: str
    month: str | None
    sentence: str
    link: str | None
    at: datetime

    @property
    def headline(self) -> str:
        """What it is in a few words.

        >>> Fact("drift", "k", "2025-03", "Amounts doubled.", None, datetime(2025, 4, 1, tzinfo=UTC)).headline
        'drift in 2025-03'
        """
        return HEADLINES[self.kind] + (f" in {self.month}" if self.month else "")


@dataclass(frozen=True)
class Failure:
    """A step of a run that failed: its name, the class of its error, and what the error says."""

    step: str
    error_class: str
    sentence: str


@dataclass(frozen=True)
class MonthRows:
    """Rows of a month's delivery, as the check `nothing_lost` counted them.

    Attributes:
        delivered: what the source gave.
        stored: in `raw_transactions`.
        quarantined: in quarantine, dropped ones included.
        dropped: of these, the ones that a person has dropped for good; they do not count against the month.
        reasons: why undecided rows are there, each with its number of rows, the most frequent first.
    """

    delivered: int
    stored: int
    quarantined: int
    dropped: int = 0
    reasons: tuple[tuple[Reason, int], ...] = ()


def drift_fact(
    month: str,
    drift_status: str,
    blame: str | None,
    report_digest: str,
    sentences: Sequence[str],
    *,
    link: str | None,
    at: datetime,
) -> Fact | None:
    """The fact that a month drifted; None for any other status. The same report again is the same fact.

    What the report blames on the data is for their owner, and a fact of that kind.
    """
    if drift_status != "DRIFT":
        return None
    said = "; ".join(sentences) or "The report gives no reasons."
    kind: FactKind = "broken_data" if blame == "data" else "drift"
    return Fact(kind, f"drift:{month}:{report_digest}", month, _short(said), link, at)


def data_facts(
    month: str, rows: MonthRows, quarantine_limit: float, *, link: str | None, at: datetime
) -> tuple[Fact, ...]:
    """What is wrong with a month that was stored: rows that are nowhere, or nearly too many in quarantine.

    Single bad rows are no alert: every real feed has some, and the check `keeps_contract` shows them.

    Args:
        month: YYYY-MM.
        rows: its counts.
        quarantine_limit: the share, 0 to 1, above which the contract refuses a month; above half of it is a fact.
        link: where to look.
        at: when the rows were counted.
    """
    facts = []

    def found(name: str, said: str) -> None:
        facts.append(Fact("broken_data", f"{name}:{month}:{digest_text(said)}", month, _short(said), link, at))

    kept = rows.stored + rows.quarantined
    if kept != rows.delivered:
        found(
            "lost",
            f"{rows.delivered:,} rows of {month} were delivered, but {rows.stored:,} are stored and "
            f"{rows.quarantined:,} in quarantine: {abs(rows.delivered - kept):,} are "
            f"{'missing' if kept < rows.delivered else 'too many'}. Run the month again before it is used.",
        )
    broken = rows.quarantined - rows.dropped
    if rows.delivered and broken > quarantine_limit / 2 * rows.delivered:
        listed = "; ".join(f"{one.text} ({count:,} rows)" for one, count in rows.reasons[:3])
        found(
            "quarantine",
            f"{broken:,} of {rows.delivered:,} rows of {month} ({percent(broken / rows.delivered)}) break the "
            f"contract and are held back; above {percent(quarantine_limit)} the month is refused."
            + (f" {listed}." if listed else ""),
        )
    return tuple(facts)


def run_fact(
    run_id: str, job: str, month: str | None, failures: Sequence[Failure], *, link: str | None, at: datetime
) -> Fact:
    """What a failed run is: a month refused by its contract, or the failure of the run.

    A delivery that is refused again in the same words is the same fact; each failed run is one of its own.
    """
    refused = [failure for failure in failures if failure.error_class in REFUSALS]
    if refused:
        said = refused[0].sentence
        key = f"refused:{month or ''}:{digest_text(refused[0].error_class, said)}"
        # The error shows the first bad value of each rule: a person's data, which a chat is no place for.
        said, ends, _ = said.partition(FIRST_ROWS)
        if not ends:
            # Of an earlier version, which wrote them between the rules.
            said = re.sub(r", first row .*?(?=; [^;]*: \d+ rows, first row |$)", "", said, flags=re.DOTALL)
        return Fact("broken_data", key, month, _short(f"The data was refused, and is not used: {said}"), link, at)
    of_month = f" for {month}" if month else ""
    why = "; ".join(f"{failure.step}: {failure.sentence}" for failure in failures) or "outside its steps"
    said = f"A run of {job}{of_month} failed. {why} (run {run_id[:8]})"
    return Fact("failed_run", f"run:{run_id}", month, _short(said), link, at)


def promotion_fact(event: Event, *, link: str | None) -> Fact | None:
    """The fact that a new model was refused, or waits for a person; None for any other event of the ledger."""
    if event.kind == "validated" and any(one.rule == Rule.NEEDS_APPROVAL for one in event.reasons):
        said = f"Model version {event.model_version} waits for a person. {joined(event.reasons, ' ')}"
        key = f"waiting_promotion:{event.number}"
        return Fact("waiting_promotion", key, event.month, _short(said), link, event.recorded_at)
    if event.kind != "refused":
        return None
    said = f"Model version {event.model_version} does not go live. {joined(event.reasons, ' ')}"
    key = f"refused_promotion:{event.number}"
    return Fact("refused_promotion", key, event.month, _short(said), link, event.recorded_at)


def breaker_fact(number: int, said: str, mode: str, *, at: datetime) -> Fact:
    """The fact that a service holds too much, and what it does since then."""
    then = (
        "The champion before answers, where there is one." if mode == "previous" else "People see what rules decline."
    )
    sentence = f"{said}. {then} `fraud breaker close` closes it; `fraud rollback` takes the model back."
    return Fact("breaker", f"breaker:{number}", None, _short(sentence), None, at)


def run_of(actor: str) -> str | None:
    """The run that recorded an event of the ledger; None for a person.

    >>> run_of("dagster run 1b2c"), run_of("alice")
    ('1b2c', None)
    """
    found = re.fullmatch(r"dagster run (\S+)", actor)
    return found.group(1) if found else None


def message(facts: Sequence[Fact]) -> tuple[str, str]:
    """Subject and body, in plain text, of one message about one or several facts."""
    headlines = [fact.headline for fact in facts]
    if len(facts) == 1:
        subject = f"[fraud] {headlines[0]}"
    else:
        more = f" and {len(facts) - 3} more" if len(facts) > 3 else ""
        subject = f"[fraud] {len(facts)} alerts: {', '.join(headlines[:3])}{more}"
    return subject, "\n\n".join(_paragraph(fact) for fact in facts)


def _paragraph(fact: Fact) -> str:
    step = NEXT_STEPS[fact.kind].format(month=fact.month) if fact.month else ""
    lines = [
        fact.headline.upper(),
        fact.sentence,
        step,
        fact.link or "",
        f"({fact.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC)",
    ]
    return "\n".join(line for line in lines if line)


def hide_passwords(text: str) -> str:
    """The text, with the password of each address in it hidden.

    >>> hide_passwords("cannot reach postgresql://fraud:hunter2@db/fraud")
    'cannot reach postgresql://fraud:***@db/fraud'
    """
    return re.sub(r"(://[^\s:/@]*):[^\s/]+@", r"\1:***@", text)


def _short(text: str) -> str:
    text = " ".join(hide_passwords(text).split())
    return text if len(text) <= LONGEST_SENTENCE else text[: LONGEST_SENTENCE - 4].rstrip() + " ..."


@dataclass(frozen=True)
class AlertPolicy:
    """How stubborn the platform is with a channel that does not take a message.

    Attributes:
        first_wait: before the second attempt; it doubles with each further one. A minute: most failures are a
            restart on the other side.
        longest_wait: what it doubles up to. Four hours: a channel that lives again in the night has its alerts by
            the morning.
        patience: between the first attempt and the last. Three days: a mail server that dies on Friday evening is
            mended on Monday.
        batch: facts in one message. 10: a backfill that refuses a model in every month is a few messages and not one
            for each month, and a person still reads them.
    """

    first_wait: timedelta = timedelta(minutes=1)
    longest_wait: timedelta = timedelta(hours=4)
    patience: timedelta = timedelta(days=3)
    batch: int = 10


@dataclass(frozen=True)
class SendAttempt:
    """One try to send: when, and what went wrong; None when it arrived."""

    at: datetime
    error: str | None


@dataclass(frozen=True)
class Delivery:
    """A fact that a channel is owed, and the attempts so far, in order."""

    fact: Fact
    channel: str
    attempts: tuple[SendAttempt, ...] = ()

    @property
    def delivered_at(self) -> datetime | None:
        """When it arrived."""
        return next((attempt.at for attempt in self.attempts if attempt.error is None), None)

    @property
    def last_error(self) -> str | None:
        """What went wrong the last time; None when nothing did."""
        return self.attempts[-1].error if self.attempts else None

    def state(self, policy: AlertPolicy) -> DeliveryState:
        """Where it stands."""
        if self.delivered_at:
            return "delivered"
        # By the attempts and not by the clock: after a pause of the sensor there is one more attempt.
        if self.attempts and self.attempts[-1].at - self.attempts[0].at >= policy.patience:
            return "given_up"
        return "waiting"

    def next_attempt_at(self, policy: AlertPolicy) -> datetime | None:
        """When it is to be tried; None when it is not tried any more."""
        if self.state(policy) != "waiting":
            return None
        if not self.attempts:
            return self.fact.at
        # The exponent is bounded, because a timedelta is.
        wait = policy.first_wait * 2.0 ** min(len(self.attempts) - 1, 16)
        return self.attempts[-1].at + min(wait, policy.longest_wait)


def due(deliveries: Iterable[Delivery], now: datetime, policy: AlertPolicy) -> dict[str, list[Delivery]]:
    """What is to be sent now: for each channel one message, of at most `policy.batch` facts.

    Returns:
        Deliveries by channel, each in the order given. Channels that failed least come first, so that dead ones do
        not keep the others waiting.
    """
    found: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        at = delivery.next_attempt_at(policy)
        # A fact's own time may be ahead of this machine's clock.
        if at is not None and (not delivery.attempts or at <= now):
            found.setdefault(delivery.channel, []).append(delivery)
    fewest = {channel: min(len(one.attempts) for one in owed) for channel, owed in found.items()}
    return {channel: found[channel][: policy.batch] for channel in sorted(found, key=lambda name: fewest[name])}
