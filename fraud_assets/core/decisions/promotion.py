"""Whether a challenger shall become the champion: from measured evidence to a verdict with its reasons.

The signals are a frozen dataclass, the verdict lists its reasons, and what is unknown counts against promotion.
Computing the metrics belongs to `evaluation/evaluation.py`; moving the alias and writing the ledger to the champion
asset and the registry; whether to train at all to `retraining.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from fraud_assets.core.evaluation.evaluation import NOBODY
from fraud_assets.core.months import check_month
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.statistics.bootstrap import Interval
from fraud_assets.core.windows import MINIMUM_FRAUDS

ValidationStatus = Literal["passed", "failed", "inconclusive", "insufficient_data"]


@dataclass(frozen=True)
class ModelEvidence:
    """What one model showed on the evaluation window.

    Attributes:
        version: of the registered model.
        trained_month: the month at whose end it was trained, YYYY-MM.
        n, n_fraud: matured transactions of the window, and frauds among them.
        prevalence: n_fraud / n.
        average_precision: of its scores, 0 to 1.
        average_precision_low, average_precision_high: its confidence interval; None or NaN where unknown.
        threshold: from which score on it sends a transaction to review.
        alerts_per_day, cards_per_day: cards a day that it flagged, and that there were.
        expected_cost: a day, of reviews and of missed frauds; None where unknown, and so are the others here.
        cost_without_review: a day, of all frauds.
        reason: what the evaluation says of a window that is not enough yet, as the end of a sentence.
    """

    version: int
    trained_month: str
    n: int
    n_fraud: int
    prevalence: float
    average_precision: float
    average_precision_low: float | None
    average_precision_high: float | None
    threshold: float | None = None
    alerts_per_day: float | None = None
    cards_per_day: float | None = None
    expected_cost: float | None = None
    cost_without_review: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class PromotionPolicy:
    """The thresholds of the decision.

    Attributes:
        minimum_frauds: fewer frauds in the window decide nothing. 20: on 300 simulated windows each of 20 frauds,
            singly or three to a card, at 1 and 15 % fraud, for weak and strong rankings, the 95 % interval of AP
            held the truth in 97 to 100 % (`metrics.evaluate_scores`), and a challenger that was no better was found
            better in at most 4 % of 50 windows each, as with 30 frauds. It is wide, 0.3 to 0.7, so that only what is
            far from chance passes.
        prevalence_multiple: without a champion, the challenger's AP must be shown to exceed this multiple of
            the prevalence, which is the AP of chance. 2: the least a review team would notice, twice as many
            frauds among its alerts as when it picks at random; the comparison comes with the next challenger.
        tolerance: a difference in AP that counts as none, in either direction. 0: any gain that is shown
            counts. Raise it where changing the live model costs something in itself.
    """

    minimum_frauds: int = MINIMUM_FRAUDS
    prevalence_multiple: float = 2.0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.minimum_frauds < 1 or self.prevalence_multiple < 1 or not self.tolerance >= 0:
            raise ValueError(
                f"{self} cannot be: minimum_frauds and prevalence_multiple are 1 or more, tolerance 0 or more"
            )


@dataclass(frozen=True)
class PromotionSignals:
    """All that the decision looks at.

    Attributes:
        month: of the decision, YYYY-MM.
        challenger_version, champion_version: what the registry holds; None when there is none.
        challenger, champion: evidence from the same window; None when the model was not evaluated.
        ap_difference: AP of the challenger minus that of the champion on the same transactions, with the
            paired interval (`metrics.paired_ap_difference`). With the usual 95 % a challenger that is no
            better passes in about one decision of 40.
        why_none: why there is no challenger, as the end of a sentence.

    Raises:
        ValueError: when the evidence is about another version than the registry's.
    """

    month: str
    challenger_version: int | None
    champion_version: int | None
    challenger: ModelEvidence | None
    champion: ModelEvidence | None
    ap_difference: Interval | None
    why_none: str | None = None

    def __post_init__(self) -> None:
        check_month(self.month)
        for role in ("challenger", "champion"):
            version, evidence = getattr(self, f"{role}_version"), getattr(self, role)
            if evidence is not None and evidence.version != version:
                raise ValueError(
                    f"the {role} of {self.month} is version {version}, but its evidence is about version "
                    f"{evidence.version}; evaluate the version that holds the alias"
                )


@dataclass(frozen=True)
class PromotionVerdict:
    """The decision and why.

    Attributes:
        validation_status: passed, failed (shown to be worse), inconclusive (not shown to be better) or
            insufficient_data (cannot be judged).
        promote: whether the challenger shall become champion; true only when it passed.
        reasons: rules, and sentences with the figures, for the ledger and for people.
    """

    validation_status: ValidationStatus
    promote: bool
    reasons: tuple[Reason, ...]


def decide_promotion(signals: PromotionSignals, policy: PromotionPolicy | None = None) -> PromotionVerdict:
    """Says whether the challenger is shown to be better, and why or why not.

    Without a challenger, without evidence, or with too few frauds the answer is insufficient_data. A challenger whose
    decisions are useless at its threshold fails, however well it ranks (`uselessness`). Without a champion the
    challenger passes when the lower bound of its AP exceeds a multiple of the prevalence. With one it passes only when
    the lower bound of the paired difference in AP is above the tolerance, and fails when the upper bound is below minus
    the tolerance. A champion whose own decisions are useless on the window is no champion: the challenger is then
    judged as if there were none, even where it ranks worse, because what is live brings nothing.

    Args:
        signals: of one month.
        policy: the thresholds; the defaults when absent.
    """
    policy = policy or PromotionPolicy()
    challenger, champion_version = signals.challenger, signals.champion_version
    if signals.challenger_version is None:
        why = signals.why_none or "nothing to promote"
        said = f"There is no challenger in {signals.month}: {why.rstrip('.')}."
        return _refuse("insufficient_data", Reason(Rule.NO_CHALLENGER, said))
    if signals.challenger_version == champion_version:
        said = f"Version {champion_version} is already the champion in {signals.month}: nothing to decide."
        return _refuse("inconclusive", Reason(Rule.ALREADY_CHAMPION, said))
    if challenger is None:
        said = f"The challenger, version {signals.challenger_version}, was not evaluated in {signals.month}."
        return _refuse("insufficient_data", Reason(Rule.NOT_EVALUATED, said))
    difference = signals.ap_difference or _UNKNOWN
    missing = _too_few_frauds(challenger, policy) + _unknown_decisions(challenger)
    champion, champion_is_useless = signals.champion, None
    if champion is not None and (champion.n, champion.n_fraud) == (challenger.n, challenger.n_fraud):
        champion_is_useless = uselessness(champion)
    if champion_version is None or champion_is_useless:
        missing += _missing_alone(challenger)
    else:
        missing += _missing_in_pair(challenger, champion, champion_version, difference)
    if missing:
        return _refuse("insufficient_data", *missing)
    if useless := uselessness(challenger):
        said = f"{_named(challenger)} decides nothing worth having: {useless}."
        return _refuse("failed", Reason(Rule.USELESS, said))
    if champion_version is None:
        return _judge_alone(challenger, policy, "There is no champion")
    if champion_is_useless:
        return _judge_alone(
            challenger, policy, f"The champion, version {champion_version}, counts as none: {champion_is_useless}"
        )
    return _judge_pair(challenger, champion_version, difference, policy)


def uselessness(evidence: ModelEvidence) -> str | None:
    """Why a model's decisions are worth nothing at its threshold; None when they are worth something, or unknown.

    They are worth nothing when nothing is flagged, when every card is, or when reviews and missed frauds together cost
    no less than reviewing nobody would have.
    """
    threshold, alerts, cards, cost, nobody = _decisions(evidence)
    if threshold is None or alerts is None or cards is None or cost is None or nobody is None:
        return None
    if alerts == 0:
        return f"at its threshold, {threshold:.4g}, it flags nothing"
    if alerts >= cards:
        return (
            f"at its threshold, {threshold:.4g}, it flags every card, {cards:,.1f} a day; where all are worth their "
            "review and can be reviewed, no model is needed (FRAUD_REVIEW_CAPACITY and the costs say so)"
        )
    if cost >= nobody:
        return (
            f"at its threshold, {threshold:.4g}, it flags {alerts:,.1f} cards a day, and reviews and missed frauds "
            f"cost {cost:,.0f} a day, where reviewing nobody costs {nobody:,.0f}"
        )
    return None


_UNKNOWN = Interval(math.nan, math.nan, math.nan)


def _too_few_frauds(challenger: ModelEvidence, policy: PromotionPolicy) -> list[Reason]:
    if challenger.n_fraud >= policy.minimum_frauds:
        return []
    until = challenger.reason or "wait until more labels have matured"
    said = (
        f"The window holds {_window(challenger)}; {policy.minimum_frauds} frauds are needed to judge a "
        f"model: {until.rstrip('.')}."
    )
    return [Reason(Rule.TOO_FEW_FRAUDS, said)]


def _unknown_decisions(challenger: ModelEvidence) -> list[Reason]:
    if None not in _decisions(challenger):
        return []
    said = (
        f"What the decisions of version {challenger.version} are worth is unknown: the evaluation does not hold their "
        "cost; rebuild it."
    )
    return [Reason(Rule.DECISIONS_UNKNOWN, said)]


def _decisions(evidence: ModelEvidence) -> tuple[float | None, ...]:
    values = (
        evidence.threshold,
        evidence.alerts_per_day,
        evidence.cards_per_day,
        evidence.expected_cost,
        evidence.cost_without_review,
    )
    return tuple(None if value is None or not math.isfinite(value) else value for value in values)


def _missing_alone(challenger: ModelEvidence) -> list[Reason]:
    trust = f"How far the AP of version {challenger.version} can be trusted is unknown"
    reasons = []
    if not _ap(challenger).is_known:
        said = f"{trust}: it has no interval, as when all frauds lie on one card."
        reasons.append(Reason(Rule.PRECISION_UNKNOWN, said))
    if not math.isfinite(challenger.prevalence):
        reasons.append(Reason(Rule.PRECISION_UNKNOWN, f"{trust}: the prevalence of the window is not known."))
    return reasons


def _missing_in_pair(
    challenger: ModelEvidence, champion: ModelEvidence | None, champion_version: int, difference: Interval
) -> list[Reason]:
    reasons = []
    if champion is None:
        said = f"The champion, version {champion_version}, was not evaluated on the same window."
        reasons.append(Reason(Rule.NOT_EVALUATED, said))
    elif (challenger.n, challenger.n_fraud) != (champion.n, champion.n_fraud):
        said = (
            "The two models were not measured on the same transactions: the challenger on "
            f"{_window(challenger)}, the champion on {_window(champion)}."
        )
        reasons.append(Reason(Rule.OTHER_TRANSACTIONS, said))
    if not difference.is_known:
        said = (
            f"The difference in AP between version {challenger.version} and the champion, version "
            f"{champion_version}, has no interval, so it may be chance."
        )
        reasons.append(Reason(Rule.DIFFERENCE_UNKNOWN, said))
    return reasons


def _judge_alone(challenger: ModelEvidence, policy: PromotionPolicy, because: str) -> PromotionVerdict:
    ap, needed = _ap(challenger), policy.prevalence_multiple * challenger.prevalence
    figures = (
        f"AP {ap.value:.3f} [{ap.low:.3f}, {ap.high:.3f}] against {needed:.4f}, which is "
        f"{policy.prevalence_multiple:g} times the prevalence, on {_window(challenger)}"
    )
    model = f"{because}, and version {challenger.version} (trained in {challenger.trained_month})"
    if ap.low > needed:
        return _promote(Reason(Rule.BETTER_THAN_CHANCE, f"{model} is clearly better than chance: {figures}."))
    if ap.high < needed:
        said = f"{model} is too close to chance: {figures}."
        return _refuse("failed", Reason(Rule.NOT_BETTER_THAN_CHANCE, said))
    said = f"{model} is not shown to be better than chance: {figures}."
    return _refuse("inconclusive", Reason(Rule.MAYBE_CHANCE, said))


def _judge_pair(
    challenger: ModelEvidence, champion_version: int, difference: Interval, policy: PromotionPolicy
) -> PromotionVerdict:
    model = _named(challenger)
    champion = f"the champion, version {champion_version}"
    beyond = f" by more than {policy.tolerance:g}" if policy.tolerance else ""
    figures = f"AP {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] on {_window(challenger)}"
    if difference.low > policy.tolerance:
        return _promote(Reason(Rule.BETTER, f"{model} is better than {champion}{beyond}: {figures}."))
    if difference.high < -policy.tolerance:
        return _refuse("failed", Reason(Rule.WORSE, f"{model} is worse than {champion}{beyond}: {figures}."))
    said = f"{model} is not shown to be better than {champion}{beyond}: {figures}."
    return _refuse("inconclusive", Reason(Rule.NOT_SHOWN_BETTER, said))


def _promote(reason: Reason) -> PromotionVerdict:
    return PromotionVerdict("passed", promote=True, reasons=(reason,))


def _refuse(status: ValidationStatus, *reasons: Reason) -> PromotionVerdict:
    return PromotionVerdict(status, promote=False, reasons=reasons)


def _named(challenger: ModelEvidence) -> str:
    return f"Version {challenger.version} (trained in {challenger.trained_month})"


def _ap(evidence: ModelEvidence) -> Interval:
    low, high = evidence.average_precision_low, evidence.average_precision_high
    return Interval(evidence.average_precision, math.nan if low is None else low, math.nan if high is None else high)


def _window(evidence: ModelEvidence) -> str:
    frauds = "1 fraud" if evidence.n_fraud == 1 else f"{evidence.n_fraud:,} frauds"
    return f"{frauds} among {evidence.n:,} matured transactions"


def promotion_signals(
    evaluation: pa.Table, month: str, champion: int | None, why_none: str | None = None
) -> PromotionSignals:
    """What the promotion decision looks at, from a month's evaluation rows.

    Args:
        evaluation: the month's rows.
        month: the month of the decision.
        champion: the version that was live before it.
        why_none: why there is no challenger; what the rows say when absent.
    """
    rows = {row["role"]: row for row in evaluation.to_pylist()}
    challenger = rows.get("challenger")
    difference = None
    if challenger and challenger["ap_difference_low"] is not None:
        difference = Interval(*(challenger[f"ap_difference{end}"] for end in ("", "_low", "_high")))
    return PromotionSignals(
        month=month,
        challenger_version=challenger["model_version"] if challenger else None,
        champion_version=champion,
        challenger=_evidence(challenger),
        champion=_evidence(rows.get("champion")),
        ap_difference=difference,
        why_none=why_none or rows.get(NOBODY, {}).get("reason"),
    )


def _evidence(row: dict[str, Any] | None) -> ModelEvidence | None:
    if row is None:
        return None
    return ModelEvidence(
        version=row["model_version"],
        trained_month=row["trained_month"],
        n=row["n"],
        n_fraud=row["n_fraud"],
        prevalence=row["prevalence"],
        average_precision=row["average_precision"],
        average_precision_low=row["average_precision_low"],
        average_precision_high=row["average_precision_high"],
        threshold=row["threshold"],
        alerts_per_day=row["alerts_per_day"],
        cards_per_day=row["cards_per_day"],
        expected_cost=row["expected_cost"],
        cost_without_review=row["cost_without_review"],
        reason=row["reason"],
    )
