"""A person's answer about a version that passed: it goes live, or it does not; and what waits for an answer.

What waits, and until when, belongs to `core/decisions/approval.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.approvals import (
    AskedAnswer,
    answer,
    ask,
    close_answers,
    open_answers,
    read_requests,
    refuse_answer,
    requests_in,
    withdraw,
)
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.approval import ApprovalError, PromotionMode, Request, to_answer, waiting
from fraud_assets.core.decisions.ledger import BY_HAND, standing
from fraud_assets.core.decisions.promotion import PromotionSignals, PromotionVerdict
from fraud_assets.core.digests import digest_text
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.models.scoring import ScoringError
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.heads import keep_head
from fraud_assets.workflows.models.promote import Package, package_version
from fraud_assets.workflows.models.truth import follow_ledger, name_for_serving

MOST_ATTEMPTS = 3

Decided = tuple[PromotionSignals, PromotionVerdict]


def let_wait(
    decided: Iterable[Decided], ledger: LedgerStore, mode: PromotionMode, evidence: Inputs, *, now: datetime, actor: str
) -> None:
    """Lets the version of a month that passed wait for a person; withdraws what waited on the month's older evidence.

    Args:
        decided: the month's decisions.
        ledger: has the database.
        mode: who has to say yes.
        evidence: what was decided on.
        now: the present moment.
        actor: who decided.
    """
    passed = [one for one in decided if one[1].validation_status == "passed"]
    months = {signals.month for signals, _ in decided}
    with ledger.deciding() as decision:
        for month in months:
            keep = passed[-1][0].challenger_version if passed and mode.mode == "approval" else None
            withdraw(decision.connection, month, keep=keep, now=now, actor=actor)
        for signals, verdict in passed if mode.mode == "approval" else ():
            if signals.challenger_version is not None:
                ask(
                    decision.connection, signals.challenger_version, signals.champion_version, signals.month,
                    verdict.reasons, evidence=digest_text(json.dumps(evidence, sort_keys=True)), now=now,
                    until=now + timedelta(days=mode.approval_days),
                )  # fmt: skip


def read_waiting(store: MonthStore, ledger: LedgerStore, now: datetime) -> list[Request]:
    """What waits for a person, oldest first."""
    return waiting(read_requests(store.database), now, standing(ledger.events()).champion)


@dataclass(frozen=True)
class Said:
    """What a person said about a version that waits.

    Attributes:
        answer: approved or rejected.
        version: which.
        reason: why; goes into the ledger.
        actor: who.
        now: when.
    """

    answer: Literal["approved", "rejected"]
    version: int
    reason: str
    actor: str
    now: datetime


def carry_out_answer(
    said: Said, ledger: LedgerStore, registry: Registry, package: Package, settings: Settings
) -> Request:
    """Records an answer; what is approved is packaged, and goes live.

    Args:
        said: the answer.
        ledger: the record.
        registry: has the aliases.
        package: packages a version, or raises.
        settings: where bentos lie.

    Returns:
        What it was about.

    Raises:
        ApprovalError: when the version does not wait, or not any more.
        RegistryError: when the registry has not all of its files.
        ScoringError: when it cannot score. Nothing is changed in any of these cases.
    """
    to_answer(read_requests(ledger.database), said.version, said.now, standing(ledger.events()).champion)
    packaged = package(said.version) if said.answer == "approved" else None
    with ledger.deciding() as decision:
        # Asked again inside the transaction: another answer, or another champion, may have come first.
        events = decision.events()
        request = to_answer(requests_in(decision.connection), said.version, said.now, standing(events).champion)
        evidence = {BY_HAND: {"after event": str(len(events))}}
        record = partial(decision.record, model_version=said.version, month=request.month, actor=said.actor)
        reasons = [Reason(Rule.BY_HAND, said.reason)]
        if packaged is None:
            record("refused", reasons=reasons, evidence=evidence)
        else:
            record("approved", reasons=reasons, evidence=evidence)
            # That it waited for a person is over.
            why = [*reasons, *(one for one in request.reasons if one.rule != Rule.NEEDS_APPROVAL)]
            record("promoted", reasons=why, evidence=evidence, digests=packaged.digests)
        answer(decision.connection, request.number, said.answer, now=said.now, actor=said.actor, reason=said.reason)
        close_answers(decision.connection, said.version, said.answer, actor=said.actor)
        follow_ledger(decision, registry)
        events = decision.events()
    if packaged is not None:
        name_for_serving(events, packaged, said.version, settings)
    keep_head(ledger, registry)
    return request


def answer_waiting(settings: Settings, store: MonthStore, said: Said) -> str:
    """Records an answer on the platform of the settings; see `carry_out_answer`.

    Returns:
        The month on whose evidence the version passed.
    """
    registry, ledger = Registry(settings), LedgerStore(store.database, settings.ledger_head_file)
    package = partial(package_version, registry=registry, settings=settings, ledger=ledger)
    return carry_out_answer(said, ledger, registry, package, settings).month


def carry_out_asked(database: Database, number: int, carry_out: Callable[[Said], str]) -> str:
    """Carries out an answer that was asked for over HTTP, as if its actor had given it at that moment.

    Args:
        database: has the answer.
        number: of the row of `asked_answers`.
        carry_out: as `answer_waiting`.

    Returns:
        What came of it, as a sentence.

    Raises:
        ApprovalError: when the version does not wait, or not any more. The row says so, too.
        ScoringError: when it cannot score; likewise.
        PlatformError: when a part of the platform does not answer now. The row stays open, and nothing is changed.
    """
    asked = next((one for one in open_answers(database) if one.number == number), None)
    if asked is None:
        return f"answer {number} is closed already"
    try:
        month = carry_out(Said(asked.answer, asked.model_version, asked.reason, asked.actor, asked.asked_at))
    except (ApprovalError, ScoringError) as error:
        refuse_answer(database, number, str(error))
        raise
    return f"version {asked.model_version} was {asked.answer} by {asked.actor}, on the evidence of {month}"


def due_answers(database: Database, tried: Mapping[int, int]) -> list[AskedAnswer]:
    """What was asked for over HTTP and is to be carried out now; what failed too often is refused.

    Args:
        database: has them.
        tried: how often an answer was tried, by its number.
    """
    due = []
    for one in open_answers(database):
        if (n := tried.get(one.number, 0)) >= MOST_ATTEMPTS:
            why = f"it failed {n} times, see the runs of the job asked_approval; `fraud approve` does it by hand"
            refuse_answer(database, one.number, why)
        else:
            due.append(one)
    return due
