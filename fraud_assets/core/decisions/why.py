"""Why something is not there: no labels, no model, no promotion; each in one sentence, made of what is stored.

One place, so that the line of `fraud run`, `fraud status`, `fraud score` and the assets say the same. Reading what is
stored belongs to `workflows/why.py`; the reasons themselves come from training, evaluation and promotion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, tzinfo
from typing import Any, Literal

from fraud_assets.core.monitoring.verdict import in_short
from fraud_assets.core.months import shift_month
from fraud_assets.core.reasons import Reason, joined, reasons_from_json
from fraud_assets.core.windows import TrainedMonth, choose_challenger
from fraud_assets.core.words import percent

Subject = Literal["transactions", "labels", "drift", "training", "promotion", "check"]
# A model that cannot be judged within so many months is not waiting, it is not judged.
_HORIZON = 24


@dataclass(frozen=True)
class Remark:
    """What a person should know of a month, and why it is so.

    Attributes:
        month: YYYY-MM.
        subject: what it is about.
        sentence: what is not there, or not as it should be, and why.
        is_usual: whether this is the usual course, and nobody needs to do anything.
    """

    month: str
    subject: Subject
    sentence: str
    is_usual: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class LabelFacts:
    """What is known of a month's labels at its end.

    Attributes:
        n_fraud, n_known: frauds among the month's transactions that are known, and transactions with any statement.
        n_statements, n_unseen: statements that became known in the month, and those of them about transactions that
            nobody has seen.
        n_delivered: statements that came with the month's transactions, whenever they become known.
        absent_files: files of the label feed that were looked for and are not there.
        refused: rows of the feed that cannot be used, by their reasons.
        delay_days: after how many days labels become known; None where each row says so itself.
    """

    n_fraud: int
    n_known: int
    n_statements: int
    n_unseen: int
    n_delivered: int
    absent_files: tuple[str, ...]
    refused: Mapping[tuple[Reason, ...], int]
    delay_days: float | None


@dataclass(frozen=True)
class MonthFacts:
    """What is stored of a month; None for what has not been made.

    Attributes:
        month: YYYY-MM.
        n_transactions: rows taken in.
        quarantined: rows in quarantine, by their reasons.
        labels: its labels.
        drift: the verdict's row of the drift report.
        trained: the row of `trained_model`.
        decision: the row of `champion`.
        is_waiting: whether a model is there that only has to wait until it can be judged.
    """

    month: str
    n_transactions: int | None = None
    quarantined: Mapping[tuple[Reason, ...], int] | None = None
    labels: LabelFacts | None = None
    drift: Mapping[str, Any] | None = None
    trained: Mapping[str, Any] | None = None
    decision: Mapping[str, Any] | None = None
    is_waiting: bool = False


def month_remarks(facts: MonthFacts) -> tuple[Remark, ...]:
    """Everything of a month that is not there, or not as it should be, in the order of the graph."""
    found = [*_transactions(facts), *_labels(facts), *_drift(facts), *_training(facts), *_promotion(facts)]
    return tuple(found)


def why_no_model(remarks: Iterable[Remark]) -> str:
    """Why nothing is live, as the end of a sentence; empty where nothing is known of it."""
    sentences = {remark.subject: remark.sentence for remark in remarks if remark.subject in ("training", "promotion")}
    labels = [remark.sentence for remark in remarks if remark.subject == "labels"] if sentences else []
    return "; ".join(sentence.rstrip(".") for sentence in [*sentences.values(), *labels])


def why_no_challenger(
    trained: Sequence[Mapping[str, Any]],
    month: str,
    maturity_days: float,
    champion: int | None = None,
    zone: tzinfo = UTC,
) -> str | None:
    """Why there is no model to judge in a month beside the champion, as a sentence without its stop.

    None where there is one: then the evaluation says why it could not be judged.

    Args:
        trained: rows of `trained_model`, of any months.
        month: the month of the decision.
        maturity_days: of the contract.
        champion: the version that is live.
        zone: in which months are cut.
    """
    rows = [row for row in _by_month(trained) if f"{row['month']:%Y-%m}" < month]
    if choose_challenger(_models(rows, zone), month, maturity_days, champion, zone) is not None:
        return None
    if waiting := next_judged(trained, month, maturity_days, champion, zone):
        model, first = waiting
        return (
            f"version {model.version}, trained in {model.month}, is judged on transactions from after that whose "
            f"labels have matured, in the run of {first} at the earliest"
        )
    absent = f"no model {'newer than the champion ' if champion is not None else ''}has been trained before {month}"
    if not rows or rows[-1]["model_version"] is not None:
        return absent
    return f"{absent}; in {rows[-1]['month']:%Y-%m}: {str(rows[-1]['reason']).rstrip('.')}"


def next_judged(
    trained: Sequence[Mapping[str, Any]],
    month: str,
    maturity_days: float,
    champion: int | None = None,
    zone: tzinfo = UTC,
) -> tuple[TrainedMonth, str] | None:
    """The newest model that is too young to be judged in a month, and the first month in which it can be."""
    rows = [row for row in _by_month(trained) if f"{row['month']:%Y-%m}" <= month]
    models = [model for model in _models(rows, zone) if model.version != champion]
    if not models or choose_challenger(models, month, maturity_days, champion, zone) is not None:
        return None
    for ahead in range(1, _HORIZON):
        later = shift_month(month, ahead)
        if choose_challenger(models[-1:], later, maturity_days, None, zone) is not None:
            return models[-1], later
    return None


def _models(rows: Iterable[Mapping[str, Any]], zone: tzinfo) -> list[TrainedMonth]:
    return [
        TrainedMonth(f"{row['month']:%Y-%m}", row["model_version"], zone)
        for row in rows
        if row["model_version"] is not None
    ]


def _by_month(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: row["month"])


def _transactions(facts: MonthFacts) -> Iterable[Remark]:
    if facts.n_transactions == 0:
        yield Remark(facts.month, "transactions", "no transaction: the source has none of this month")
    if facts.quarantined:
        n = sum(facts.quarantined.values())
        share = n / (n + (facts.n_transactions or 0))
        yield Remark(
            facts.month,
            "transactions",
            f"{n:,} rows ({percent(share)}) in quarantine: {_most_frequent(facts.quarantined)}",
        )


def _labels(facts: MonthFacts) -> Iterable[Remark]:
    labels = facts.labels
    if labels is None or not facts.n_transactions:
        return
    # What a delivery says of its own rows is shown as their rate, whenever it becomes known.
    none = f"{percent(0.0)} fraud: " if not labels.n_fraud and not labels.n_delivered else ""
    found = []
    if labels.absent_files:
        found.append(f"{none}the label file of {facts.month} is missing ({', '.join(labels.absent_files)})")
    if labels.refused:
        n = sum(labels.refused.values())
        rows = f"all {n:,}" if not labels.n_statements else f"{n:,}"
        found.append(f"{none}{rows} label rows were refused: {_most_frequent(labels.refused)}")
    if labels.n_unseen and labels.n_unseen == labels.n_statements:
        found.append(
            f"{none}all {labels.n_unseen:,} statements are about transactions that nobody has seen; compare their ids"
        )
    if not found and not labels.n_fraud and labels.n_known:
        found.append(f"{none}none of the {labels.n_known:,} known labels says fraud")
    elif not found and not labels.n_fraud:
        when = "" if labels.delay_days is None else f"; labels become known {labels.delay_days:g} days after the event"
        # After four weeks no label of a month is known at its end.
        is_usual = labels.delay_days is not None and labels.delay_days >= 28
        yield Remark(facts.month, "labels", f"{none}no label was known at its end{when}", is_usual)
    yield from (Remark(facts.month, "labels", sentence) for sentence in found)


def _drift(facts: MonthFacts) -> Iterable[Remark]:
    if facts.drift is not None and facts.drift["drift_status"] in ("WATCH", "DRIFT"):
        reasons = reasons_from_json(facts.drift["reasons"])
        has_champion = facts.drift["champion_version"] is not None
        said = in_short(facts.drift["blame"], reasons, has_champion=has_champion)
        yield Remark(facts.month, "drift", f"{facts.drift['drift_status']}: {said}")


def _training(facts: MonthFacts) -> Iterable[Remark]:
    if facts.trained is not None and facts.trained["model_version"] is None:
        yield Remark(facts.month, "training", f"no model: {facts.trained['reason']}")


def _promotion(facts: MonthFacts) -> Iterable[Remark]:
    decision = facts.decision
    if decision is None or decision["promoted"]:
        return
    live, challenger = decision["champion_version"], decision["challenger_version"]
    reasons = joined(reasons_from_json(decision["reasons"]), " ")
    if challenger is not None and challenger != live:
        is_usual = live is not None and decision["validation_status"] == "inconclusive"
        yield Remark(facts.month, "promotion", f"version {challenger} was not promoted: {reasons}", is_usual)
    elif live is None:
        yield Remark(facts.month, "promotion", f"nothing is live: {reasons}", facts.is_waiting)


def _most_frequent(reasons: Mapping[tuple[Reason, ...], int]) -> str:
    first = max(reasons, key=lambda reason: reasons[reason])
    others = len(reasons) - 1
    more = f", and {others} more reason{'s' if others > 1 else ''}" if others else ""
    return f"{joined(first).rstrip('.')}{more}"
