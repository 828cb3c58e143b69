"""Verdicts carried out: the ledger is the record, the alias follows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from fraud_assets.adapters.database import Database
from fraud_assets.adapters.ledger_store import LedgerStore
from fraud_assets.adapters.promotion import apply_verdict, follow_ledger, promote_by_hand
from fraud_assets.adapters.registry import Registry, RegistryError
from fraud_assets.core.promotion import PromotionSignals, PromotionVerdict

PASSED = PromotionVerdict("passed", True, ("It is better.",))
REFUSED = PromotionVerdict("inconclusive", False, ("It is not shown to be better.",))


@dataclass
class FakeRegistry:
    """A registry with versions 1 to 5 that keeps its alias in memory."""

    champion: int | None = None
    moves: list[int] = field(default_factory=list)

    def fetch(self, version: int) -> None:
        if version > 5:
            raise RegistryError(f"the registry has no version {version}")

    def promote(self, version: int) -> None:
        if version != self.champion:
            self.champion = version
            self.moves.append(version)


@pytest.fixture
def ledger(database: Database) -> LedgerStore:
    return LedgerStore(database)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def decide(
    ledger: LedgerStore, registry: FakeRegistry, month: str, challenger: int | None, verdict: PromotionVerdict,
    *, champion: int | None = None, evidence: str = "e",
) -> int | None:  # fmt: skip
    """A month's verdict, carried out; what is live after it."""
    signals = PromotionSignals(month, challenger, champion, None, None, None)
    return apply_verdict(verdict, signals, ledger, cast("Registry", registry), actor="test", evidence=evidence)


def kinds(ledger: LedgerStore) -> list[tuple[str, int, str]]:
    return [(event.kind, event.model_version, event.month) for event in ledger.events()]


def test_a_passed_challenger_is_validated_promoted_and_live(ledger: LedgerStore, registry: FakeRegistry) -> None:
    assert decide(ledger, registry, "2025-03", 1, PASSED) == 1
    assert kinds(ledger) == [("validated", 1, "2025-03"), ("promoted", 1, "2025-03")]
    assert registry.champion == 1


def test_a_refused_challenger_leaves_what_is_live(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, "2025-03", 1, PASSED)
    assert decide(ledger, registry, "2025-04", 2, REFUSED, champion=1) == 1
    assert kinds(ledger)[-1] == ("refused", 2, "2025-04")
    assert registry.champion == 1


def test_without_a_challenger_nothing_is_recorded(ledger: LedgerStore, registry: FakeRegistry) -> None:
    assert decide(ledger, registry, "2025-03", None, REFUSED) is None
    assert kinds(ledger) == []


def test_the_same_verdict_on_the_same_evidence_is_recorded_once(ledger: LedgerStore, registry: FakeRegistry) -> None:
    for _ in range(3):
        decide(ledger, registry, "2025-03", 1, PASSED)
    assert len(kinds(ledger)) == 2
    assert registry.moves == [1]


def test_new_evidence_is_recorded_beside_the_old(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, "2025-03", 1, PASSED, evidence="before a correction")
    decide(ledger, registry, "2025-03", 1, REFUSED, evidence="after a correction")
    assert [kind for kind, *_ in kinds(ledger)] == ["validated", "promoted", "refused"]


def test_a_verdict_on_an_older_month_does_not_displace_a_later_champion(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, "2025-05", 3, PASSED)
    assert decide(ledger, registry, "2025-03", 1, PASSED) == 1
    assert registry.champion == 3


def test_an_alias_that_a_crash_left_behind_is_mended_by_the_next_run(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, "2025-03", 1, PASSED)
    registry.champion = None
    follow_ledger(ledger, cast("Registry", registry))
    assert registry.champion == 1


def test_an_empty_ledger_moves_no_alias(ledger: LedgerStore, registry: FakeRegistry) -> None:
    follow_ledger(ledger, cast("Registry", registry))
    assert registry.moves == []


def test_a_person_can_promote_a_version_and_go_back(ledger: LedgerStore, registry: FakeRegistry) -> None:
    for version in (2, 1, 2):
        promote_by_hand(version, "2025-03", "try", ledger, cast("Registry", registry), actor="ada")
    assert registry.moves == [2, 1, 2]
    assert [(event.model_version, event.actor, event.reasons) for event in ledger.events()] == [
        (version, "ada", "try") for version in (2, 1, 2)
    ]


def test_a_version_that_does_not_exist_leaves_ledger_and_alias_alone(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    with pytest.raises(RegistryError):
        promote_by_hand(9, "2025-03", "try", ledger, cast("Registry", registry), actor="ada")
    assert ledger.events() == []
    assert registry.moves == []
