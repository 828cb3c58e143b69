"""What `fraud serve` tells a service about rules and the breaker."""

from __future__ import annotations

from fraud_assets.core.contracts.rules import RULES_VARIABLE
from fraud_assets.core.guards.breaker import BREAKER_VARIABLES
from fraud_assets.settings import Settings


def guards_environment(settings: Settings) -> dict[str, str]:
    """The variables by which a service knows whose rules it follows, and when its breaker opens."""
    share = "" if settings.breaker_share is None else str(settings.breaker_share)
    given = (share, str(settings.breaker_seconds), str(settings.breaker_scores), settings.breaker_mode)
    return {RULES_VARIABLE: str(settings.contract_path), **dict(zip(BREAKER_VARIABLES, given, strict=True))}
