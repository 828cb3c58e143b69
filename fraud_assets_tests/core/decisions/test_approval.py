"""Who says yes before a model goes live: what waits, until when, and what an answer is about."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud_assets.core.decisions.approval import (
    ApprovalError,
    Mode,
    PromotionMode,
    Request,
    hold,
    to_answer,
    waiting,
)
from fraud_assets.core.decisions.promotion import PromotionVerdict, decide_promotion
from fraud_assets.core.reasons import Rule
from fraud_assets_tests.core.decisions.test_promotion import BETTER, with_pair
from fraud_assets_tests.sentences import because

NOW = datetime(2025, 7, 10, 12, tzinfo=UTC)
REQUEST = Request(
    number=1,
    requested_at=NOW - timedelta(days=3),
    expires_at=NOW + timedelta(days=11),
    model_version=7,
    champion_version=5,
    month="2025-06",
    evidence="e",
    reasons=because("Version 7 is cheaper."),
)


def request(**changes: Any) -> Request:
    return dataclasses.replace(REQUEST, **changes)


ANSWERED: dict[str, Any] = {"answered_at": NOW, "actor": "ada", "reason": "no"}


@pytest.mark.parametrize(
    ("one", "live", "state", "why"),
    [
        (REQUEST, 5, "waiting", None),
        (request(champion_version=None), None, "waiting", None),
        (REQUEST, 6, "overtaken", "it was compared with version 5, and version 6 is live now"),
        (request(champion_version=None), 5, "overtaken", "it was compared with nothing, and version 5 is live now"),
        (
            request(expires_at=NOW),
            5,
            "expired",
            "it waited until 2025-07-10 12:00 UTC; run 2025-06 again to ask once more",
        ),
        (request(answer="approved", **ANSWERED), 5, "approved", "ada approved it already"),
        (request(answer="rejected", **ANSWERED), 5, "rejected", "ada rejected it: no"),
        (request(answer="withdrawn", **ANSWERED), 5, "withdrawn", "2025-06 was decided again, and it did not pass"),
    ],
)
def test_only_what_waits_can_be_answered_and_else_it_is_said_why_not(
    one: Request, live: int | None, state: str, why: str | None
) -> None:
    assert one.state(NOW, live) == state
    assert waiting([one], NOW, live) == ([one] if why is None else [])
    if why is None:
        assert to_answer([one], 7, NOW, live) == one
    else:
        with pytest.raises(ApprovalError, match="version 7 does not wait for an approval any more: ") as error:
            to_answer([one], 7, NOW, live)
        assert why in str(error.value)


def test_a_version_that_was_asked_for_again_waits_once_with_its_newest_evidence() -> None:
    requests = [REQUEST, request(number=2, month="2025-07", evidence="f"), request(number=3, model_version=6)]
    assert [one.number for one in waiting(requests, NOW, 5)] == [2, 3]
    assert to_answer(requests, 7, NOW, 5).number == 2


def test_a_version_that_never_waited_is_named_beside_those_that_do() -> None:
    with pytest.raises(ApprovalError, match="version 9 does not wait for an approval; version 7 does"):
        to_answer([REQUEST], 9, NOW, 5)
    with pytest.raises(ApprovalError, match="version 9 does not wait for an approval; nothing does"):
        to_answer([], 9, NOW, 5)


@pytest.mark.parametrize(
    ("mode", "promote", "rule"),
    [
        ("automatic", True, None),
        ("shadow", True, None),
        ("approval", False, Rule.NEEDS_APPROVAL),
        ("never", False, Rule.PROMOTION_OFF),
    ],
)
def test_what_passed_goes_live_by_itself_where_nobody_has_to_say_so(mode: Mode, promote: bool, rule: Rule) -> None:
    held = hold(decide_promotion(BETTER), PromotionMode(mode))
    assert (held.validation_status, held.promote) == ("passed", promote)
    assert held.reasons[0].rule == Rule.BETTER
    assert [one.rule for one in held.reasons[1:]] == ([rule] if rule else [])


def test_what_did_not_pass_needs_nobody() -> None:
    refused: PromotionVerdict = decide_promotion(with_pair(deciding_cards=3))
    assert hold(refused, PromotionMode("approval")) == refused


@pytest.mark.parametrize("days", [{"approval_days": 0}, {"shadow_days": 0}])
def test_a_time_that_is_none_is_an_error(days: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        PromotionMode(**days)
