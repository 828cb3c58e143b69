"""What waits for a person, and what an answer does to ledger and aliases."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

import pytest

from fraud_assets.adapters.asked.answers import NotWaitingError, ask_answer, read_answer
from fraud_assets.adapters.asked.session import Session
from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.postgres.approvals import open_answers, read_requests
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.approval import ApprovalError, PromotionMode, hold, waiting
from fraud_assets.core.decisions.ledger import standing
from fraud_assets.core.decisions.promotion import PromotionSignals, PromotionVerdict
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.reasons import Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.approve import Said, carry_out_answer, carry_out_asked, let_wait
from fraud_assets.workflows.models.promote import apply_verdict
from fraud_assets_tests.workflows.models.test_promote import (
    PASSED,
    REFUSED,
    FakeRegistry,
    kinds,
    ledger,
    promote,
    registry,
)

__all__ = ["ledger", "registry"]

NOW = datetime(2025, 7, 10, tzinfo=UTC)
APPROVAL = PromotionMode("approval")


def decide(
    ledger: LedgerStore, registry: FakeRegistry, version: int, verdict: PromotionVerdict = PASSED,
    *, month: str = "2025-06", champion: int | None = None, evidence: str = "e", now: datetime = NOW,
    mode: PromotionMode = APPROVAL,
) -> None:  # fmt: skip
    """A month's verdict, carried out as the asset does it."""
    signals = PromotionSignals(month, version, champion, None, None, None)
    named: Inputs = {"evaluation": {month: evidence}}
    held = hold(verdict, mode)
    apply_verdict(
        held, signals, ledger, cast("Registry", registry), registry.package, actor="dagster run 1", evidence=named
    )
    let_wait([(signals, held)], ledger, mode, named, now=now, actor="dagster run 1")


def waits(ledger: LedgerStore, now: datetime = NOW) -> list[int]:
    live = standing(ledger.events()).champion
    return [one.model_version for one in waiting(read_requests(ledger.database), now, live)]


def say(ledger: LedgerStore, registry: FakeRegistry, said: Said) -> None:
    carry_out_answer(said, ledger, cast("Registry", registry), registry.package, cast("Settings", registry))


YES = Said("approved", 2, "seen with the fraud team", "ada", NOW + timedelta(days=1))
NO = dataclasses.replace(YES, answer="rejected", reason="wait")


def test_what_passed_waits_and_nothing_is_live_by_it(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, 2)
    assert kinds(ledger) == [("validated", 2, "2025-06")]
    assert ledger.events()[0].reasons[-1].rule == Rule.NEEDS_APPROVAL
    assert registry.champion is None
    assert waits(ledger) == [2]
    [request] = read_requests(ledger.database)
    assert (request.requested_at, request.expires_at) == (NOW, NOW + timedelta(days=14))
    assert request.reasons[0].text == "It is better."


def test_who_approved_what_when_and_why_is_in_the_ledger(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, 2)
    say(ledger, registry, YES)
    assert kinds(ledger) == [("validated", 2, "2025-06"), ("approved", 2, "2025-06"), ("promoted", 2, "2025-06")]
    approved, promoted = ledger.events()[1:]
    assert {approved.actor, promoted.actor} == {"ada"}
    assert [one.text for one in approved.reasons] == ["seen with the fraud team"]
    # That it waited for a person is over.
    assert [one.text for one in promoted.reasons] == ["seen with the fraud team", "It is better."]
    assert promoted.digests["bento"] == "b"
    assert (registry.champion, waits(ledger)) == (2, [])
    [request] = read_requests(ledger.database)
    assert (request.answer, request.actor, request.reason, request.answered_at) == (
        "approved", "ada", "seen with the fraud team", YES.now,
    )  # fmt: skip


def test_what_is_rejected_is_not_live_and_is_not_asked_about_again_on_the_same_evidence(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    promote(ledger, registry, 1)
    decide(ledger, registry, 2, champion=1)
    say(ledger, registry, NO)
    assert kinds(ledger)[-1] == ("refused", 2, "2025-06")
    assert (registry.champion, waits(ledger)) == (1, [])
    decide(ledger, registry, 2, champion=1)
    assert waits(ledger) == []
    decide(ledger, registry, 2, champion=1, evidence="labels that arrived late")
    assert waits(ledger) == [2]


def test_a_month_that_is_run_again_asks_once_and_its_approval_stands(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, 2)
    decide(ledger, registry, 2, now=NOW + timedelta(hours=1))
    assert len(read_requests(ledger.database)) == 1
    say(ledger, registry, YES)
    before = kinds(ledger)
    decide(ledger, registry, 2)
    assert kinds(ledger) == before
    assert (registry.champion, waits(ledger)) == (2, [])


def test_what_waited_too_long_is_asked_about_anew(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, 2)
    late = dataclasses.replace(YES, now=NOW + timedelta(days=14))
    with pytest.raises(ApprovalError, match="it waited until 2025-07-24 00:00 UTC; run 2025-06 again"):
        say(ledger, registry, late)
    assert waits(ledger, late.now) == []
    decide(ledger, registry, 2, now=late.now)
    assert waits(ledger, late.now) == [2]
    say(ledger, registry, late)
    assert registry.champion == 2


def test_what_was_compared_with_another_champion_cannot_be_approved(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    promote(ledger, registry, 1)
    decide(ledger, registry, 2, champion=1)
    promote(ledger, registry, 3)
    before = kinds(ledger)
    with pytest.raises(ApprovalError, match="it was compared with version 1, and version 3 is live now"):
        say(ledger, registry, YES)
    assert (kinds(ledger), registry.champion, waits(ledger)) == (before, 3, [])


def test_a_month_that_is_decided_again_and_refuses_takes_its_request_back(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, 2)
    decide(ledger, registry, 2, REFUSED, evidence="labels that arrived late")
    assert waits(ledger) == []
    with pytest.raises(ApprovalError, match="2025-06 was decided again, and it did not pass"):
        say(ledger, registry, YES)


def test_an_answer_counts_once(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, 2)
    say(ledger, registry, NO)
    with pytest.raises(ApprovalError, match="ada rejected it: wait"):
        say(ledger, registry, YES)
    assert registry.champion is None


def test_what_cannot_be_packaged_is_not_approved(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, 6)
    with pytest.raises(RegistryError, match="no version 6"):
        say(ledger, registry, dataclasses.replace(YES, version=6))
    assert waits(ledger) == [6]
    assert kinds(ledger) == [("validated", 6, "2025-06")]


def test_an_alias_that_cannot_be_moved_leaves_the_request_as_it_was(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, 2)
    registry.answers = False
    with pytest.raises(RegistryError, match="did not answer"):
        say(ledger, registry, YES)
    assert (kinds(ledger), waits(ledger)) == ([("validated", 2, "2025-06")], [2])


def test_nothing_waits_where_nothing_goes_live_by_itself(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, 2, mode=PromotionMode("never"))
    assert (kinds(ledger), waits(ledger), registry.champion) == ([("validated", 2, "2025-06")], [], None)
    assert ledger.events()[0].reasons[-1].rule == Rule.PROMOTION_OFF


# --- Asked for over HTTP --------------------------------------------------------------------------------------


def today() -> datetime:
    return datetime.now(UTC)


def carry_out(ledger: LedgerStore, registry: FakeRegistry, number: int) -> str:
    def answered(said: Said) -> str:
        settings = cast("Settings", registry)
        return carry_out_answer(said, ledger, cast("Registry", registry), registry.package, settings).month

    return carry_out_asked(ledger.database, number, answered)


@pytest.fixture
def session(ledger: LedgerStore) -> Iterator[Session]:
    opened = Session(ledger.database.url, "test")
    yield opened
    opened.close()


def test_what_is_asked_for_is_carried_out_as_if_it_had_been_said_then(
    ledger: LedgerStore, registry: FakeRegistry, session: Session
) -> None:
    decide(ledger, registry, 2, now=today())
    asked = ask_answer(session, 2, "approved", "seen with the fraud team", "API key ada")
    # Nothing is live by it.
    assert (kinds(ledger), registry.champion, waits(ledger, today())) == ([("validated", 2, "2025-06")], None, [2])
    assert (
        carry_out(ledger, registry, asked.number) == "version 2 was approved by API key ada, on the evidence of 2025-06"
    )
    assert kinds(ledger)[1:] == [("approved", 2, "2025-06"), ("promoted", 2, "2025-06")]
    assert {event.actor for event in ledger.events()[1:]} == {"API key ada"}
    assert registry.champion == 2
    [request] = read_requests(ledger.database)
    assert (request.answered_at, request.reason) == (asked.asked_at, "seen with the fraud team")
    told = read_answer(session, asked.number)
    assert told is not None
    assert (told.outcome, told.said) == ("carried_out", "API key ada approved version 2")
    # A run that is repeated after a crash.
    assert "is closed already" in carry_out(ledger, registry, asked.number)
    assert len(kinds(ledger)) == 3


def test_what_cannot_be_carried_out_is_refused_and_says_why(
    ledger: LedgerStore, registry: FakeRegistry, session: Session
) -> None:
    decide(ledger, registry, 2, now=today())
    asked = ask_answer(session, 2, "approved", "seen", "API key ada")
    promote(ledger, registry, 3)
    before = kinds(ledger)
    with pytest.raises(ApprovalError, match="version 3 is live now"):
        carry_out(ledger, registry, asked.number)
    told = read_answer(session, asked.number)
    assert told is not None
    assert told.outcome == "refused"
    assert "version 3 is live now" in (told.said or "")
    assert (kinds(ledger), registry.champion) == (before, 3)


def test_a_platform_that_does_not_answer_leaves_it_for_another_try(
    ledger: LedgerStore, registry: FakeRegistry, session: Session
) -> None:
    decide(ledger, registry, 2, now=today())
    asked = ask_answer(session, 2, "approved", "seen", "API key ada")
    registry.answers = False
    with pytest.raises(RegistryError):
        carry_out(ledger, registry, asked.number)
    assert (kinds(ledger), waits(ledger, today())) == ([("validated", 2, "2025-06")], [2])
    assert [one.number for one in open_answers(ledger.database)] == [asked.number]
    registry.answers = True
    carry_out(ledger, registry, asked.number)
    assert registry.champion == 2


@pytest.mark.parametrize(("by_hand", "outcome"), [("approved", "carried_out"), ("rejected", "refused")])
def test_who_answers_by_hand_first_closes_what_was_asked_for(
    ledger: LedgerStore,
    registry: FakeRegistry,
    session: Session,
    by_hand: Literal["approved", "rejected"],
    outcome: str,
) -> None:
    decide(ledger, registry, 2, now=today())
    asked = ask_answer(session, 2, "approved", "seen", "API key ada")
    say(ledger, registry, Said(by_hand, 2, "first", "grace", today()))
    told = read_answer(session, asked.number)
    assert told is not None
    assert (told.outcome, told.said) == (outcome, f"grace {by_hand} version 2")
    assert open_answers(ledger.database) == []


def test_two_answers_at_once_are_one(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, 2, now=today())

    def ask(answer: Literal["approved", "rejected"]) -> str:
        one = Session(ledger.database.url, "test")
        try:
            return str(ask_answer(one, 2, answer, "seen", "API key ada").number)
        except NotWaitingError as error:
            return str(error)
        finally:
            one.close()

    answers: list[Literal["approved", "rejected"]] = ["approved", "rejected"]
    with ThreadPoolExecutor(8) as several:
        said = set(several.map(ask, answers * 8))
    assert len(said) == 2
    [asked] = open_answers(ledger.database)
    assert {
        str(asked.number),
        f"version 2 is being {asked.answer} already: answer {asked.number}, of API key ada",
    } == said
