"""Whether a challenger shall become the champion: from measured evidence to a verdict with its reasons.

The signals are a frozen dataclass, the verdict lists its reasons, and what is unknown counts against promotion.
Computing the figures belongs to `evaluation/`; putting stored rows together into signals to `evidence.py`; moving the
alias and writing the ledger to the champion asset and the registry; whether to train at all to `retraining.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from fraud_assets.core.months import check_month
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.statistics.bootstrap import Interval
from fraud_assets.core.windows import MINIMUM_FRAUDS
from fraud_assets.core.words import percent

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
        expected_over_observed: frauds that its scores promise over those seen, with its interval.
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
    expected_over_observed: Interval | None = None
    reason: str | None = None


@dataclass(frozen=True)
class PairEvidence:
    """How the challenger compares with the champion on all windows since both were there (`evaluation/pair.py`).

    Attributes:
        n, n_fraud: matured transactions, and frauds among them.
        look: which look at this pair it is, from 1.
        level: chance that this look finds an equal challenger better.
        reviews_per_day: cards a day that each has for review.
        deciding_cards: cards with a fraud that one has reviewed and the other has not.
        cost, card_precision, value, ap, own_cost: challenger less champion, with bounds at the level; None where
            nobody wrote it. `value` is None too where the source has no amounts.
        has_amount: whether the source has amounts.
    """

    n: int
    n_fraud: int
    look: int
    level: float
    reviews_per_day: float
    deciding_cards: int
    cost: Interval | None
    card_precision: Interval | None
    value: Interval | None
    ap: Interval | None
    own_cost: Interval | None
    has_amount: bool = True


@dataclass(frozen=True)
class PartEvidence:
    """How the challenger compares with the champion on one part of the window.

    Attributes:
        name: of the part, such as merchant_segment travel.
        caught: share of the part's losses that it has reviewed, less the champion's; 95 % for all parts together.
    """

    name: str
    caught: Interval


@dataclass(frozen=True)
class PackageEvidence:
    """What the packaged model is, measured before it may go live.

    Attributes:
        size: of the model, in bytes.
        latency: of one score, the median, in milliseconds.
        disagreement: the largest difference between its score of the smoke rows and that of the model as it was
            trained, 0 to 1, by where it was scored: onnx, bento.
    """

    size: int
    latency: float
    disagreement: Mapping[str, float]


@dataclass(frozen=True)
class Shadow:
    """How long a challenger has been beside the champion, where it has to be for a while.

    Attributes:
        since: when it was registered; None when that is unknown.
        days: of matured transactions from after that.
        needed: how many it takes.
    """

    since: datetime | None
    days: float
    needed: int


@dataclass(frozen=True)
class PromotionPolicy:
    """The thresholds of the decision.

    Attributes:
        minimum_frauds: fewer frauds in the window decide nothing. 20: on 300 simulated windows each of 20 frauds,
            singly or three to a card, at 1 and 15 % fraud, for weak and strong rankings, the 95 % interval of AP
            held the truth in 97 to 100 % (`metrics.evaluate_scores`). It is wide, 0.3 to 0.7, so that only what is
            far from chance passes.
        prevalence_multiple: without a champion, the challenger's AP must be shown to exceed this multiple of
            the prevalence, which is the AP of chance. 2: the least a review team would notice, twice as many
            frauds among its alerts as when it picks at random; the comparison comes with the next challenger.
        tolerance: a difference in cost that counts as none, in either direction, as a share of what all frauds cost
            a day. 0: any gain that is shown counts. Raise it where changing the live model costs something in itself.
        minimum_deciding: cards on which the two must decide differently. 10: with fewer, Student's t of amounts that
            differ a hundredfold is a guess.
        calibration_factor: by how many times the frauds that scores promise may be shown to differ from those seen. 3:
            beyond it the threshold, which is chosen by cost, is not where it was meant to be; and the frauds of a month
            differ from those of another by less.
        part_tolerance: the share of a part's losses that a challenger may be shown to find less of. 0.05: one fraud of
            twenty.
        maximum_latency: of one score, in milliseconds. 50: a card payment has some hundreds for everything.
        maximum_size: of the model, in bytes. 200 MB: what a service with several workers still holds in memory.
        maximum_disagreement: between scores of the same row. 1e-4: ONNX computes with 32 bits.
        heeds_live: whether a challenger that is shown to be dearer on live traffic is refused. False: the months say
            the same on more transactions, and a share that was answered otherwise changes who gets which label.
    """

    minimum_frauds: int = MINIMUM_FRAUDS
    prevalence_multiple: float = 2.0
    tolerance: float = 0.0
    minimum_deciding: int = 10
    calibration_factor: float = 3.0
    part_tolerance: float = 0.05
    maximum_latency: float = 50.0
    maximum_size: int = 200_000_000
    maximum_disagreement: float = 1e-4
    heeds_live: bool = False

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
        pair: how the two compare; None when they were not compared.
        parts: the same of the window's parts, those that have frauds enough; None when nobody compared them.
        matured: whether all labels of the window had matured; None when unknown.
        drift_status, blame: of the month's drift report; None when there is no report, or it blames nothing.
        training_digest: of what the challenger was trained on; None when unknown.
        package: of the challenger as it would be served; None before it is packaged.
        shadow: how long it has been in shadow; None where it need not be.
        why_none: why there is no challenger, as the end of a sentence.
        live: how the two compare on live traffic that both scored (`challenger_comparison`); None where they were not.
    """

    month: str
    challenger_version: int | None
    champion_version: int | None
    challenger: ModelEvidence | None
    champion: ModelEvidence | None
    pair: PairEvidence | None = None
    parts: tuple[PartEvidence, ...] | None = None
    matured: bool | None = None
    drift_status: str | None = None
    blame: str | None = None
    training_digest: str | None = None
    package: PackageEvidence | None = None
    shadow: Shadow | None = None
    why_none: str | None = None
    live: PairEvidence | None = None

    def __post_init__(self) -> None:
        check_month(self.month)


@dataclass(frozen=True)
class PromotionVerdict:
    """The decision and why.

    Attributes:
        validation_status: passed, failed (shown to be worse, or not fit to be live), inconclusive (not shown to be
            better, or not now) or insufficient_data (cannot be judged).
        promote: whether the challenger shall become champion; true only when it passed.
        reasons: rules, and sentences with the figures, for the ledger and for people.
    """

    validation_status: ValidationStatus
    promote: bool
    reasons: tuple[Reason, ...]


def decide_promotion(signals: PromotionSignals, policy: PromotionPolicy | None = None) -> PromotionVerdict:
    """Says whether the challenger goes live, and why or why not: `judge_evidence`, then its package.

    Args:
        signals: of one month, with the package.
        policy: the thresholds; the defaults when absent.
    """
    policy = policy or PromotionPolicy()
    verdict = judge_evidence(signals, policy)
    if not verdict.promote:
        return verdict
    unknown, unfit = _package(signals, policy)
    if unknown:
        return _refuse("insufficient_data", *unknown)
    return _refuse("failed", *unfit) if unfit else verdict


def judge_evidence(signals: PromotionSignals, policy: PromotionPolicy | None = None) -> PromotionVerdict:
    """Says whether the challenger is shown to be better, and why or why not; its package is not looked at.

    Without a challenger, without evidence, with a figure missing or with too few frauds the answer is
    insufficient_data. A challenger whose decisions are useless at its threshold fails, however well it ranks
    (`uselessness`).

    With a champion, the challenger passes only when the same reviews are shown to cost less with it: the upper bound of
    the difference in cost lies below minus the tolerance, at the level that is left for this look
    (`statistics/spending.py`). It fails when the lower bound lies above the tolerance. A better ranking alone never
    promotes; one that is shown to be worse (average precision, cards among the reviews, value found, or the cost at the
    model's own threshold) refuses, and so does a part of the window that is harmed.

    Without a champion it passes when the lower bound of its AP exceeds a multiple of the prevalence, and its decisions
    cost less than none; scores that promise too many or too few frauds do not refuse it then, because without it nobody
    is reviewed at all. A champion whose own decisions are useless on the window is no champion: the challenger is then
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
    if other := _other_models(signals):
        return _refuse("insufficient_data", *other)
    if challenger is None:
        said = f"The challenger, version {signals.challenger_version}, was not evaluated in {signals.month}."
        return _refuse("insufficient_data", Reason(Rule.NOT_EVALUATED, said))
    because = _nothing_live(signals)
    if not because and (early := _in_shadow(signals)):
        return _refuse("inconclusive", *early)
    missing = [*_too_few_frauds(challenger, policy), *_unknown_decisions(challenger)]
    missing += _missing_alone(challenger) if because else _missing_in_pair(signals, challenger)
    missing += [*_unknown_calibration(challenger), *_unknown_origins(signals, challenger)]
    if missing:
        return _refuse("insufficient_data", *missing)
    if useless := uselessness(challenger):
        said = f"{_named(challenger)} decides nothing worth having: {useless}."
        return _refuse("failed", Reason(Rule.USELESS, said))
    if because:
        verdict = _judge_alone(challenger, policy, because)
    else:
        verdict = _judge_pair(challenger, signals.champion_version, _known(signals.pair), policy)
    if not verdict.promote:
        return verdict
    # Beside nothing, or what is as good as nothing, nothing is harmed.
    if not because and (harm := _miscalibrated(signals, policy) + _harm(signals, policy)):
        return _refuse("failed", *harm)
    return _refuse("inconclusive", *wait) if (wait := _suspect_month(signals)) else verdict


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


# What is unknown counts against promotion


def _other_models(signals: PromotionSignals) -> list[Reason]:
    """Evidence about another version than the one that it is taken for."""
    found = []
    for role in ("challenger", "champion"):
        version, evidence = getattr(signals, f"{role}_version"), getattr(signals, role)
        if evidence is not None and evidence.version != version:
            said = (
                f"The {role} of {signals.month} is {'none' if version is None else f'version {version}'}, but the "
                f"evidence is about version {evidence.version}: rebuild the evaluation."
            )
            found.append(Reason(Rule.OTHER_MODEL, said))
    return found


def _nothing_live(signals: PromotionSignals) -> str | None:
    """Why the challenger is judged as the first model, as the begin of a sentence; None when it is not."""
    challenger, champion = signals.challenger, signals.champion
    if signals.champion_version is None:
        return "There is no champion"
    if challenger is None or champion is None or _rows(champion) != _rows(challenger):
        return None
    useless = uselessness(champion)
    return useless and f"The champion, version {signals.champion_version}, counts as none: {useless}"


def _in_shadow(signals: PromotionSignals) -> list[Reason]:
    shadow, version = signals.shadow, signals.challenger_version
    if shadow is None or shadow.days >= shadow.needed:
        return []
    since = "when it was registered is unknown" if shadow.since is None else f"since {shadow.since:%Y-%m-%d}"
    said = (
        f"Version {version} is in shadow, {since}: of the {shadow.needed} days beside the champion that it needs, "
        f"{max(math.floor(shadow.days), 0)} have matured."
    )
    return [Reason(Rule.IN_SHADOW, said)]


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


def _missing_in_pair(signals: PromotionSignals, challenger: ModelEvidence) -> list[Reason]:
    champion, pair = signals.champion, signals.pair
    between = f"version {challenger.version} and the champion, version {signals.champion_version}"
    if champion is None:
        said = f"The champion, version {signals.champion_version}, was not evaluated on the same window."
        return [Reason(Rule.NOT_EVALUATED, said)]
    if _rows(challenger) != _rows(champion):
        said = (
            "The two models were not measured on the same transactions: the challenger on "
            f"{_window(challenger)}, the champion on {_window(champion)}."
        )
        return [Reason(Rule.OTHER_TRANSACTIONS, said)]
    if pair is None:
        said = f"The cost of the same reviews with {between} was not compared: rebuild the evaluation."
        return [Reason(Rule.DIFFERENCE_UNKNOWN, said)]
    reasons = []
    if not 0 < pair.level < 1 or pair.look < 1:
        said = f"Which look at {between} it is, is unknown: rebuild the evaluation."
        reasons.append(Reason(Rule.DIFFERENCE_UNKNOWN, said))
    # With hardly a difference between the two there is no interval, and it is known why.
    if pair.deciding_cards >= 2:
        for name, figure in _compared(pair):
            if figure is None or not figure.is_known:
                said = f"The difference in {name} between {between} has no interval, so it may be chance."
                reasons.append(Reason(Rule.DIFFERENCE_UNKNOWN, said))
    if signals.parts is None:
        said = f"How {between}, compare on the parts of the window is unknown: rebuild the evaluation."
        reasons.append(Reason(Rule.PARTS_UNKNOWN, said))
    return reasons


def _compared(pair: PairEvidence) -> list[tuple[str, Interval | None]]:
    named = [
        ("cost with the same reviews", pair.cost), ("card precision", pair.card_precision), ("AP", pair.ap),
        ("cost at their own thresholds", pair.own_cost),
    ]  # fmt: skip
    return [*named, ("value found", pair.value)] if pair.has_amount else named


def _unknown_calibration(challenger: ModelEvidence) -> list[Reason]:
    if challenger.expected_over_observed is not None and challenger.expected_over_observed.is_known:
        return []
    said = (
        f"Whether the scores of version {challenger.version} promise as many frauds as there were is unknown: they are "
        "no probabilities, or all frauds lie on one card."
    )
    return [Reason(Rule.CALIBRATION_UNKNOWN, said)]


def _unknown_origins(signals: PromotionSignals, challenger: ModelEvidence) -> list[Reason]:
    reasons = []
    if signals.matured is not True:
        said = "is unknown" if signals.matured is None else "is not the case"
        said = f"That all labels of the window had matured {said}: rebuild the evaluation."
        reasons.append(Reason(Rule.LABELS_NOT_MATURED, said))
    if signals.drift_status is None:
        said = f"There is no drift report of {signals.month}, so whether the month is sound is unknown: build it."
        reasons.append(Reason(Rule.DRIFT_UNKNOWN, said))
    if not signals.training_digest:
        said = f"What version {challenger.version} was trained on is not recorded: train its month again."
        reasons.append(Reason(Rule.TRAINING_UNKNOWN, said))
    return reasons


# What is known and speaks against it


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
    challenger: ModelEvidence, champion_version: int | None, pair: PairEvidence, policy: PromotionPolicy
) -> PromotionVerdict:
    model, champion = _named(challenger), f"the champion, version {champion_version}"
    reviews = f"the same {pair.reviews_per_day:,.1f} reviews a day"
    if pair.deciding_cards < policy.minimum_deciding:
        said = (
            f"{model} decides like {champion}: with {reviews} they find different frauds on {pair.deciding_cards} "
            f"cards, and {policy.minimum_deciding} are needed to tell them apart, on {_frauds(pair.n, pair.n_fraud)}."
        )
        return _refuse("inconclusive", Reason(Rule.TOO_ALIKE, said))
    cost, tolerated = _known(pair.cost), policy.tolerance * (challenger.cost_without_review or 0.0)
    beyond = f" by more than {tolerated:,.0f} a day" if tolerated else ""
    figures = f"{reviews} cost {_change(cost, ',.0f')} a day" + (
        f", AP {_change(_known(pair.ap), '.3f')}, on {_frauds(pair.n, pair.n_fraud)}{_look(pair)}"
    )
    if cost.high < -tolerated:
        return _promote(Reason(Rule.BETTER, f"{model} is cheaper than {champion}{beyond}: {figures}."))
    if cost.low > tolerated:
        return _refuse("failed", Reason(Rule.WORSE, f"{model} is dearer than {champion}{beyond}: {figures}."))
    said = f"{model} is not shown to be cheaper than {champion}{beyond}: {figures}."
    return _refuse("inconclusive", Reason(Rule.NOT_SHOWN_BETTER, said))


def _harm(signals: PromotionSignals, policy: PromotionPolicy) -> list[Reason]:
    """What gets worse although the same reviews cost less."""
    pair = _known(signals.pair)
    champion = f"the champion, version {signals.champion_version}"
    lower = [("average precision", pair.ap), ("card precision of the reviews", pair.card_precision)]
    lower += [("share of the fraud amount that is found", pair.value)] if pair.has_amount else []
    reasons = [
        Reason(Rule.HARM, f"With version {signals.challenger_version} the {name} is lower than with {champion}: "
               f"{_change(_known(figure), '.3f')}.")
        for name, figure in lower
        if _known(figure).high < 0
    ]  # fmt: skip
    own = _known(pair.own_cost)
    if own.low > 0:
        said = (
            f"At its own threshold version {signals.challenger_version} costs more than {champion}: "
            f"{_change(own, ',.0f')} a day."
        )
        reasons.append(Reason(Rule.HARM, said))
    if policy.heeds_live and signals.live is not None and signals.live.cost is not None and signals.live.cost.low > 0:
        said = (
            f"On live traffic version {signals.challenger_version} costs more than {champion}: the same reviews cost "
            f"{_change(signals.live.cost, ',.0f')} a day{_look(signals.live)}."
        )
        reasons.append(Reason(Rule.HARM, said))
    for part in _known(signals.parts):
        if part.caught.high < -policy.part_tolerance:
            said = (
                f"Version {signals.challenger_version} harms {part.name}: of the losses there it finds "
                f"{_change(part.caught, '.3f')} as a share, and {-policy.part_tolerance:g} is the limit."
            )
            reasons.append(Reason(Rule.PART_HARMED, said, part.name))
    return reasons


def _miscalibrated(signals: PromotionSignals, policy: PromotionPolicy) -> list[Reason]:
    """Scores that promise other numbers of frauds than there were, unless those of the champion are further off."""
    mine = _known(_known(signals.challenger).expected_over_observed)
    factor = policy.calibration_factor
    if mine.low <= factor and mine.high >= 1 / factor:
        return []
    theirs = signals.champion.expected_over_observed if signals.champion else None
    if theirs is not None and theirs.is_known and _off(theirs.value) > _off(mine.value):
        return []
    said = (
        f"The scores of version {signals.challenger_version} promise {mine.value:.2f} [{mine.low:.2f}, "
        f"{mine.high:.2f}] times the frauds that there were; more than {factor:g} times too many or too few is the "
        "limit."
    )
    return [Reason(Rule.MISCALIBRATED, said)]


def _off(share: float) -> float:
    return abs(math.log(share)) if share > 0 else math.inf


def _suspect_month(signals: PromotionSignals) -> list[Reason]:
    if signals.drift_status != "DRIFT" or signals.blame not in ("data", "labels"):
        return []
    said = (
        f"The drift report of {signals.month} blames the {signals.blame}, so what was measured may be wrong: "
        f"`fraud drift {signals.month}` says what; the next month decides."
    )
    return [Reason(Rule.SUSPECT_MONTH, said)]


def _package(signals: PromotionSignals, policy: PromotionPolicy) -> tuple[list[Reason], list[Reason]]:
    """What of the package is unknown, and what is wrong with it."""
    package, version = signals.package, signals.challenger_version
    if package is None:
        return [Reason(Rule.PACKAGE_UNKNOWN, f"Version {version} was not packaged and tried.")], []
    unknown = [
        Reason(Rule.PACKAGE_UNKNOWN, f"The score of version {version} as {place} was not compared.")
        for place in ("onnx", "bento")
        if not math.isfinite(package.disagreement.get(place, math.nan))
    ]
    if not math.isfinite(package.latency) or not package.size > 0:
        unknown.append(Reason(Rule.PACKAGE_UNKNOWN, f"How long a score of version {version} takes is unknown."))
    unfit = [
        Reason(Rule.OTHER_SCORES, f"Version {version} as {place} gives other scores than the model that was trained: "
               f"they differ by up to {worst:.2g}, and {policy.maximum_disagreement:g} is the limit.")
        for place, worst in package.disagreement.items()
        if worst > policy.maximum_disagreement
    ]  # fmt: skip
    if package.latency > policy.maximum_latency:
        said = (
            f"One score of version {version} takes {package.latency:.1f} ms; {policy.maximum_latency:g} is the limit."
        )
        unfit.append(Reason(Rule.TOO_SLOW, said))
    if package.size > policy.maximum_size:
        said = f"Version {version} has {package.size / 1e6:,.0f} MB; {policy.maximum_size / 1e6:,.0f} is the limit."
        unfit.append(Reason(Rule.TOO_LARGE, said))
    return unknown, unfit


# Words


T = TypeVar("T")


def _known(value: T | None) -> T:
    """A value that was looked at before."""
    if value is None:
        raise ValueError("what is missing should have refused")
    return value


def _promote(reason: Reason) -> PromotionVerdict:
    return PromotionVerdict("passed", promote=True, reasons=(reason,))


def _refuse(status: ValidationStatus, *reasons: Reason) -> PromotionVerdict:
    return PromotionVerdict(status, promote=False, reasons=reasons)


def _named(challenger: ModelEvidence) -> str:
    return f"Version {challenger.version} (trained in {challenger.trained_month})"


def _ap(evidence: ModelEvidence) -> Interval:
    low, high = evidence.average_precision_low, evidence.average_precision_high
    return Interval(evidence.average_precision, math.nan if low is None else low, math.nan if high is None else high)


def _rows(evidence: ModelEvidence) -> tuple[int, int]:
    return evidence.n, evidence.n_fraud


def _window(evidence: ModelEvidence) -> str:
    return _frauds(evidence.n, evidence.n_fraud)


def _frauds(n: int, n_fraud: int) -> str:
    frauds = "1 fraud" if n_fraud == 1 else f"{n_fraud:,} frauds"
    return f"{frauds} among {n:,} matured transactions"


def _change(interval: Interval, form: str) -> str:
    value, low, high = (f"{number:+{form}}" for number in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _look(pair: PairEvidence) -> str:
    return f" (look {pair.look}, at {percent(1 - 2 * pair.level)})"
