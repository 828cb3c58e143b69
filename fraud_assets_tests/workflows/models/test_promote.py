"""Verdicts carried out: the ledger is the record, the alias follows it."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import cast

import pytest

from fraud_assets.adapters.bento import PackagedBento
from fraud_assets.adapters.live_bento import read_live, write_live
from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.approval import PromotionMode
from fraud_assets.core.decisions.ledger import Standing, standing
from fraud_assets.core.decisions.promotion import PromotionSignals, PromotionVerdict
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.models.live import LiveModel
from fraud_assets.core.reasons import Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.promote import ConflictError, Order, apply_verdict, carry_out
from fraud_assets.workflows.models.truth import follow_ledger
from fraud_assets_tests.sentences import because

PASSED = PromotionVerdict("passed", True, because("It is better."))
REFUSED = PromotionVerdict("inconclusive", False, because("It is not shown to be better."))


@dataclass
class FakeRegistry:
    """A registry with versions 1 to 5 that keeps its alias in memory, and a store of bentos."""

    champion: int | None = None
    moves: list[int | None] = field(default_factory=list)
    heads: dict[int, str] = field(default_factory=dict)
    answers: bool = True
    bentoml_home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp()))
    promotion_mode: PromotionMode = field(default_factory=PromotionMode)

    def package(self, version: int) -> PackagedBento:
        if version > 5:
            raise RegistryError(f"the registry has no version {version}")
        return PackagedBento(
            f"fraud_scorer:v{version}",
            self.bentoml_home / f"v{version}",
            "b",
            {"bento": "b", "model.onnx": f"m{version}"},
        )

    def keep_head(self, version: int, head: str) -> None:
        self.heads[version] = head

    def has(self, version: int) -> bool:
        return version <= 5

    def follow(self, aliases: Mapping[str, int | None]) -> dict[str, int | None]:
        if not self.answers:
            raise RegistryError("MLflow did not answer")
        version = aliases["champion"]
        if version != self.champion:
            self.champion = version
            self.moves.append(version)
        return {}


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
    named: Inputs = {"evaluation": {month: evidence}}
    return apply_verdict(
        verdict, signals, ledger, cast("Registry", registry), registry.package, actor="test", evidence=named
    )


def promote(ledger: LedgerStore, registry: FakeRegistry, version: int, known: Standing | None = None) -> None:
    """A person's promotion on the evidence of 2025-03, who knows what is live unless something else is given."""
    order = Order("promoted", version, "2025-03", "try", "ada", known or standing(ledger.events()))
    carry_out(order, ledger, cast("Registry", registry), registry.package, cast("Settings", registry))


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


def test_a_promotion_that_does_not_stand_on_new_evidence_is_taken_back(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, "2025-02", 1, PASSED)
    decide(ledger, registry, "2025-03", 2, PASSED, champion=1, evidence="before a correction")
    assert decide(ledger, registry, "2025-03", 2, REFUSED, champion=1, evidence="after a correction") == 1
    assert registry.moves == [1, 2, 1]


def test_a_promotion_whose_month_has_nothing_left_to_judge_is_taken_back(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, "2025-02", 1, PASSED)
    decide(ledger, registry, "2025-03", 2, PASSED, champion=1, evidence="before a correction")
    assert decide(ledger, registry, "2025-03", None, REFUSED, champion=1, evidence="after a correction") == 1
    assert kinds(ledger)[-1] == ("refused", 2, "2025-03")


def test_a_decision_on_evidence_that_has_come_back_is_a_new_decision(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, "2025-03", 1, PASSED, evidence="as first delivered")
    decide(ledger, registry, "2025-03", 1, REFUSED, evidence="a wrong file")
    for _ in range(2):
        assert decide(ledger, registry, "2025-03", 1, PASSED, evidence="as first delivered") == 1
    assert [kind for kind, *_ in kinds(ledger)] == ["validated", "promoted", "refused", "validated", "promoted"]


def test_what_a_person_promoted_stands_when_the_month_is_decided_again(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, "2025-03", 1, PASSED, evidence="before a correction")
    promote(ledger, registry, 4)
    assert decide(ledger, registry, "2025-03", 2, PASSED, evidence="after a correction") == 4
    assert decide(ledger, registry, "2025-03", None, REFUSED, evidence="and another") == 4
    assert registry.champion == 4


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
    with ledger.deciding() as decision:
        follow_ledger(decision, cast("Registry", registry))
    assert registry.champion == 1


def test_an_empty_ledger_moves_no_alias(ledger: LedgerStore, registry: FakeRegistry) -> None:
    with ledger.deciding() as decision:
        follow_ledger(decision, cast("Registry", registry))
    assert registry.moves == []


def test_a_person_can_promote_a_version_and_go_back(ledger: LedgerStore, registry: FakeRegistry) -> None:
    for version in (2, 1, 2):
        promote(ledger, registry, version)
    assert registry.moves == [2, 1, 2]
    assert [(event.model_version, event.actor, event.reasons) for event in ledger.events()] == [
        (version, "ada", because("try", rule=Rule.BY_HAND)) for version in (2, 1, 2)
    ]


def test_a_version_that_does_not_exist_leaves_ledger_and_alias_alone(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    with pytest.raises(RegistryError):
        promote(ledger, registry, 9)
    assert ledger.events() == []
    assert registry.moves == []


def test_a_challenger_that_cannot_be_packaged_is_not_promoted(ledger: LedgerStore, registry: FakeRegistry) -> None:
    decide(ledger, registry, "2025-03", 1, PASSED)
    with pytest.raises(RegistryError):
        decide(ledger, registry, "2025-04", 9, PASSED, champion=1)
    assert kinds(ledger) == [("validated", 1, "2025-03"), ("promoted", 1, "2025-03")]
    assert registry.moves == [1]


def test_a_promotion_whose_alias_cannot_be_moved_leaves_the_ledger_alone(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    registry.answers = False
    with pytest.raises(RegistryError):
        decide(ledger, registry, "2025-03", 1, PASSED)
    with pytest.raises(RegistryError):
        promote(ledger, registry, 2)
    assert ledger.events() == []


def test_of_twenty_who_promote_at_once_each_has_won_in_order_or_is_told_of_the_conflict(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    quick = registry.follow

    def follow_slowly(aliases: Mapping[str, int | None]) -> dict[str, int | None]:
        time.sleep(0.005)
        return quick(aliases)

    registry.follow = follow_slowly  # type: ignore[method-assign]
    told: list[str] = []

    def one(number: int) -> bool:
        try:
            promote(ledger, registry, number % 5 + 1)
        except ConflictError as error:
            told.append(str(error))
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        won = list(pool.map(one, range(20)))
    assert 1 <= sum(won) < 20
    assert sum(won) + len(told) == 20
    assert len(ledger.events()) == sum(won)
    assert registry.champion == ledger.events()[-1].model_version
    assert ledger.find_fault() is None
    assert all(
        re.search(r"you decided while .* was champion, and now it is version \d .*by ada", said) for said in told
    )


def test_who_decided_on_a_champion_that_is_not_any_more_is_told_and_changes_nothing(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    promote(ledger, registry, 1)
    known = standing(ledger.events())
    promote(ledger, registry, 2)
    promote(ledger, registry, 1)
    with pytest.raises(ConflictError, match="you decided while version 1 was champion, and now it is version 1"):
        promote(ledger, registry, 3, known)
    assert registry.moves == [1, 2, 1]


def test_a_verdict_that_compared_with_another_champion_is_not_carried_out(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    decide(ledger, registry, "2025-03", 1, PASSED)
    with pytest.raises(ConflictError, match="decided against no version, and meanwhile version 1 is live"):
        decide(ledger, registry, "2025-04", 2, PASSED, champion=None)
    assert kinds(ledger) == [("validated", 1, "2025-03"), ("promoted", 1, "2025-03")]


def test_a_retired_version_does_not_go_live(ledger: LedgerStore, registry: FakeRegistry) -> None:
    ledger.record("retired", 2, "2025-03", because("old"), actor="ada")
    with pytest.raises(ConflictError, match="version 2 was retired"):
        promote(ledger, registry, 2)
    assert registry.moves == []


def test_what_is_live_is_named_for_serving_with_the_ledger_s_head_and_a_later_name_stays(
    ledger: LedgerStore, registry: FakeRegistry
) -> None:
    promote(ledger, registry, 3)
    live = read_live(registry.bentoml_home)
    (event,) = ledger.events()
    since = event.recorded_at.astimezone(UTC).isoformat()
    assert live == LiveModel(3, 1, event.hash, "fraud_scorer:v3", "v3", {"model.onnx": "m3"}, 1, since)
    write_live(registry.bentoml_home, replace(live, row=0, model_version=2))
    assert read_live(registry.bentoml_home) == live
