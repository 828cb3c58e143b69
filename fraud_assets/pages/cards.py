"""A model's card: what a version is for, how it was made, how good it is, where it is weak, as HTML and as Markdown.

One set of sections, shown by two writers, so that both say the same. It is made of what is stored, and of nothing else:
the same rows give the same card. Where they come from is in `workflows/models/model_card.py`; the pictures are in
`card_charts.py`, the looks in `templates/card.html`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, get_args

from markupsafe import Markup

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.ledger import Event, champion_event
from fraud_assets.core.evaluation.evaluation import Role
from fraud_assets.core.evaluation.thresholds import Calibration
from fraud_assets.core.explanations.behaviour import Behaviour
from fraud_assets.core.features.declarations import feature_descriptions
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.monitoring.verdict import in_short
from fraud_assets.core.reasons import joined, reasons_from_json
from fraud_assets.core.words import number, percent
from fraud_assets.pages.card_charts import bars, calibration_picture
from fraud_assets.pages.charts import Point, by_month
from fraud_assets.pages.templating import template

SHOWN_FEATURES = 15  # of the importance that are open; the others are a click away
FEW_FRAUDS = 100  # below, the card says that its figures rest on few

SHARES = {
    "precision_at_100", "card_precision_at_100", "recall_at_fpr_1pct", "precision_at_threshold", "recall_at_threshold",
    "value_detection_rate",
}  # fmt: skip
METRICS = {
    "average_precision": "Average precision (by chance: the share of frauds)",
    "roc_auc": "Area under the ROC curve",
    "card_precision_at_100": "Frauds among the 100 highest {cards} of a day",
    "recall_at_fpr_1pct": "Frauds caught while 1 % of genuine transactions are flagged",
    "precision_at_threshold": "Frauds among flagged transactions",
    "recall_at_threshold": "Frauds that are flagged",
    "value_detection_rate": "Fraud amount that is flagged",
    "alerts_per_day": "{cards} to review a day",
    "expected_cost": "Cost a day{currency}",
    "cost_without_review": "Cost a day if nobody were reviewed{currency}",
    "brier": "Brier score (lower is better)",
    "expected_over_observed": "Frauds expected for each one found (1 is right)",
}
VALIDATED = {
    "validation_average_precision": "Average precision",
    "validation_brier": "Brier score",
    "validation_brier_skill": "Brier skill (0: no better than the base rate)",
    "validation_expected_over_observed": "Frauds expected for each one found",
}
ROLES = get_args(Role)
EVENTS = {
    "registered": "registered", "validated": "validated", "refused": "not promoted", "approved": "approved",
    "promoted": "promoted", "rolled_back": "rolled back to", "retired": "retired",
    "shadow_started": "made a challenger", "shadow_ended": "no challenger any more",
}  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """A table: its caption, its columns (those in `figures` are aligned right), and rows of text."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False

    @property
    def figures(self) -> tuple[int, ...]:
        """The columns of which every cell is empty or begins with a digit or a sign."""
        looks = re.compile(r"[-+<]?\d|-?$")
        return tuple(
            place for place in range(1, len(self.columns)) if all(looks.match(row[place]) for row in self.rows)
        )


@dataclass(frozen=True)
class Figure:
    """A picture, and the same in a table, for those who read the Markdown."""

    title: str
    svg: Markup
    cells: Cells | None = None


@dataclass(frozen=True)
class Section:
    """A part of the card: sentences, terms with what is said of them, lists, tables, pictures."""

    title: str
    sentences: tuple[str, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Cells, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Everything that a card is made of.

    Attributes:
        contract: of the source, as the version knows it.
        manifest: of the version.
        setting: which setting was chosen, and why, in words; None where it is not stored.
        n, n_fraud: rows that it learned from; None where it is not stored.
        events: the ledger.
        evaluation: rows of `evaluation` of the months in which the version was judged, all roles.
        segments: rows of `evaluation_segments` of the newest of them, of this version.
        calibration: on the validation rows; None where they are not kept.
        choices: rows of `thresholds.threshold_rows` on these; none likewise.
        behaviour: what the model makes of its features; None where its rows are not stored any more.
        verdicts: of the drift reports of later months, by month: `drift_status`, `blame`, `reasons` as JSON,
            and `champion_version`.
        platform: version of this software.
    """

    contract: Contract
    manifest: ModelManifest
    setting: str | None
    n: int | None
    n_fraud: int | None
    events: Sequence[Event]
    evaluation: Sequence[Mapping[str, Any]]
    segments: Sequence[Mapping[str, Any]]
    calibration: Calibration | None
    choices: Sequence[Mapping[str, str | float]]
    behaviour: Behaviour | None
    verdicts: Mapping[str, Mapping[str, Any]]
    platform: str

    @property
    def cards(self) -> str:
        """What is reviewed, in the plural: the card's entity, or transactions."""
        card = self.contract.card
        return "transactions" if card is None else f"{card.removesuffix('_id').replace('_', ' ')}s"

    @property
    def currency(self) -> str:
        """As it follows a word: ", in EUR"; empty where it is not known."""
        unit = self.contract.amount.unit if self.contract.amount else None
        return f", in {unit}" if unit else ""


@dataclass(frozen=True)
class Card:
    """A card, before it is written."""

    title: str
    subtitle: str
    state: str
    style: str
    headline: str
    sections: tuple[Section, ...] = field(default=())


def model_card(facts: CardFacts) -> Card:
    """The card of a version."""
    manifest = facts.manifest
    state, style, headline = _state(facts)
    return Card(
        title=f"Model card: {manifest.model_name} version {manifest.model_version}",
        subtitle=facts.contract.name,
        state=state,
        style=style,
        headline=headline,
        sections=tuple(
            section
            for section in (
                _purpose(facts), _data(facts), _validated(facts), _judged(facts), _calibrated(facts), _choices(facts),
                _segments(facts), _features(facts), _limits(facts), _drift(facts), _history(facts), _made(facts),
            )
        ),
    )  # fmt: skip


def as_html(card: Card) -> str:
    """The card as one page, without a script, that needs no network."""
    return template("card.html").render(card=card)


def as_markdown(card: Card) -> str:
    """The card as Markdown, each picture as its table."""
    lines = [f"# {_plain(card.title)}", "", _plain(card.subtitle), "", f"**{card.state}.** {_plain(card.headline)}"]
    for section in card.sections:
        lines += ["", f"## {_plain(section.title)}"]
        for sentence in section.sentences:
            lines += ["", _plain(sentence)]
        if section.terms:
            lines += ["", *(f"- {_plain(term)}: {_plain(said)}" for term, said in section.terms)]
        if section.points:
            lines += ["", *(f"- {_plain(point)}" for point in section.points)]
        for cells in [*section.tables, *(one.cells for one in section.figures if one.cells)]:
            lines += ["", *_markdown_table(cells)]
    return "\n".join(lines) + "\n"


def _markdown_table(cells: Cells) -> list[str]:
    right = cells.figures
    rule = ["---:" if place in right else "---" for place in range(len(cells.columns))]
    rows = [list(map(_plain, row)) for row in cells.rows]
    head = [
        f"**{_plain(cells.caption)}**",
        "",
        f"| {' | '.join(map(_plain, cells.columns))} |",
        f"| {' | '.join(rule)} |",
    ]
    return head + [f"| {' | '.join(row)} |" for row in rows]


# What has a meaning in Markdown or in the HTML that it may hold.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, on one line.

    >>> _plain("a|b <i> *c*")
    'a\\\\|b \\\\<i\\\\> \\\\*c\\\\*'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


# Sections


def _state(facts: CardFacts) -> tuple[str, str, str]:
    """In a word, the class of its colour, and in a sentence."""
    version = facts.manifest.model_version
    mine = [event for event in facts.events if event.model_version == version]
    live = champion_event(facts.events)
    if live is not None and live.model_version == version:
        return "LIVE", "ok", f"Live since the evidence of {live.month}."
    if any(event.kind in ("promoted", "rolled_back") for event in mine):
        now = f"; version {live.model_version} is live now" if live else ""
        return "WAS LIVE", "insufficient-data", f"It was live, and is no more{now}."
    decided = [event for event in mine if event.kind == "refused"]
    if decided:
        return "NOT PROMOTED", "watch", f"On the evidence of {decided[-1].month}: {joined(decided[-1].reasons)}"
    return "NOT DECIDED", "insufficient-data", "It was trained, and nothing has been decided about it yet."


def _purpose(facts: CardFacts) -> Section:
    manifest, contract = facts.manifest, facts.contract
    return Section(
        "What it is for",
        (
            f"It gives each transaction of {contract.name} a probability of fraud when it happens, from what was known "
            f"before it. From {manifest.threshold:.4f} on, the transaction is to be reviewed by people.",
            manifest.rule.sentence if manifest.rule else "How its threshold was chosen is not stored.",
            f"It is not made for other sources, for deciding without a review, or for ranking {facts.cards} over "
            "longer times.",
        ),
        (
            ("Kind", manifest.family.replace("_", " ")),
            ("Features", f"{len(manifest.features)}"),
            ("Threshold", f"{manifest.threshold:.4f}"),
            ("Digest", manifest.model_digest[:12]),
        ),
    )


def _data(facts: CardFacts) -> Section:
    manifest = facts.manifest
    terms = [
        ("Trained at the end of", manifest.trained_month),
        ("Labels as known at", f"{datetime.fromisoformat(manifest.as_of).astimezone(UTC):%Y-%m-%d %H:%M} UTC"),
    ]
    if manifest.training_from and manifest.training_to:
        terms.append(("Transactions", f"{_day(manifest.training_from)} to {_day(manifest.training_to)}"))
    if facts.n is not None and facts.n_fraud is not None:
        terms.append(
            ("Matured rows", f"{facts.n:,}, of which {facts.n_fraud:,} frauds ({_share(facts.n_fraud, facts.n)})")
        )
    terms.append(("Genuine", f"after {facts.contract.maturity_days:g} days without a report"))
    sentences = (facts.setting,) if facts.setting else ()
    return Section("Data and windows", sentences, tuple(terms))


def _validated(facts: CardFacts) -> Section:
    """What it showed on the newest part of its own window, by models fitted before it."""
    metrics = facts.manifest.metrics
    rows = []
    for name, label in VALIDATED.items():
        if name in metrics:
            rows.append(
                (label, _between(metrics[name], metrics.get(f"{name}_low"), metrics.get(f"{name}_high"), number))
            )
    promised = []
    if facts.manifest.rule:
        rule = facts.manifest.rule
        for label, estimate, say in (
            (f"{_capital(facts.cards)} to review a day", rule.alerts_per_day, number),
            ("Frauds that are flagged", rule.recall, percent),
            ("Fraud amount that is flagged", rule.value_detection_rate, percent),
            (f"Cost a day{facts.currency}", rule.expected_cost, number),
            (f"Cost a day without reviews{facts.currency}", rule.cost_without_review, number),
        ):
            if estimate is not None:
                promised.append((label, _between(estimate.value, estimate.low, estimate.high, say)))
    n_fraud = metrics.get("validation_n_fraud")
    on = f" Calibration was judged on {n_fraud:,.0f} frauds." if n_fraud is not None else ""
    tables = []
    if rows:
        tables.append(Cells("On the validation rows (95 % where an interval is known)", ("What", "Value"), tuple(rows)))
    if promised:
        tables.append(Cells("What the threshold promises (95 %)", ("What", "Value"), tuple(promised)))
    return Section(
        "What it showed in training",
        (f"The newest part of its window was scored by models that were fitted before it.{on}",),
        tables=tuple(tables),
    )


def _judged(facts: CardFacts) -> Section:
    """Beside champion and reference, on transactions from after its training."""
    version = facts.manifest.model_version
    if not facts.evaluation:
        return Section("How good it is on later transactions", ("It has not been judged on later transactions yet.",))
    newest = max(row["month"] for row in facts.evaluation)
    here = sorted((row for row in facts.evaluation if row["month"] == newest), key=lambda row: ROLES.index(row["role"]))
    (mine, *_) = [row for row in here if row["model_version"] == version and row["role"] != "reference"]
    columns = ("What", *(f"{row['role']} v{row['model_version']}" for row in here))
    rows = []
    for name, label in METRICS.items():
        if any(row[name] is not None for row in here):
            told = [_between(row[name], row[f"{name}_low"], row[f"{name}_high"], _say(name)) for row in here]
            rows.append((_named(label, facts), *told))
    months = sorted({row["month"] for row in facts.evaluation})
    points = [
        Point(
            f"{row['month']:%Y-%m}", row["average_precision"], row["average_precision_low"],
            row["average_precision_high"], facts.manifest.metrics.get("validation_average_precision"),
        )
        for row in sorted(facts.evaluation, key=lambda row: row["month"])
        if row["model_version"] == version and row["role"] != "reference" and row["average_precision"] is not None
    ]  # fmt: skip
    figures = []
    if points:
        said = f"Average precision in {len(points)} months, the newest {number(points[-1].value or 0.0)}"
        cells = Cells(
            "Average precision by month (95 %)", ("Month", "Average precision"),
            tuple((one.month, _between(one.value, one.low, one.high, number)) for one in points),
        )  # fmt: skip
        figures.append(
            Figure("Average precision by month; dashed: as validated", by_month(points, said, number), cells)
        )
    return Section(
        "How good it is on later transactions",
        (
            f"All of these are judged on the same {mine['n']:,} transactions, {mine['n_fraud']:,} of them frauds "
            f"({percent(mine['prevalence'])}), from {_day(mine['window_from'])} to {_day(mine['window_to'])}, with "
            f"labels as known at the end of {newest:%Y-%m}. The reference is the logistic regression that was trained "
            "beside the newest of them.",
        ),
        tables=(Cells(f"Judged in {newest:%Y-%m}, {len(months)} months in all (95 %)", columns, tuple(rows)),),
        figures=tuple(figures),
    )


def _calibrated(facts: CardFacts) -> Section:
    bins = facts.calibration
    if bins is None:
        return Section("Is a probability what it says?", ("The scores of the validation rows are not stored.",))
    cells = Cells(
        "Calibration on the validation rows (95 %)",
        ("Mean score", "Share of frauds", "Transactions", "Frauds"),
        tuple(
            (percent(expected), _between(observed, low, high, percent), f"{n:,.0f}", f"{n_fraud:,.0f}")
            for expected, observed, low, high, n, n_fraud in zip(
                bins.expected, bins.observed, bins.low, bins.high, bins.n, bins.n_fraud, strict=True
            )
        ),
    )
    return Section(
        "Is a probability what it says?",
        ("Each bin promises the same number of frauds. On the dashed line, as many were found as promised.",),
        figures=(Figure("Frauds found, by what was promised", calibration_picture(bins), cells),),
    )


def _choices(facts: CardFacts) -> Section:
    if not facts.choices:
        return Section("Cost and capacity", ("The scores of the validation rows are not stored.",))
    columns = {
        "alerts_per_day": f"{_capital(facts.cards)} a day",
        "threshold": "Threshold",
        "precision": "Frauds among flagged",
        "recall": "Frauds flagged",
        "value_detected": "Amount flagged",
        "expected_cost": f"Cost a day{facts.currency}",
    }
    shown = [name for name in columns if any(choice[name] != "" for choice in facts.choices)]
    rows = tuple(
        (_choice(str(choice["choice"]), facts), *(_choice_cell(name, choice[name]) for name in shown))
        for choice in facts.choices
    )
    rule = facts.manifest.rule
    costs = ""
    if rule is not None:
        paid = rule.costs.in_words(has_amount=bool(facts.contract.amount))
        costs = f" {_capital(paid)}; {rule.review_capacity} reviews a day are possible."
    return Section(
        "Cost and capacity",
        (f"What each threshold would have brought on the validation rows.{costs}",),
        tables=(Cells("By what can be reviewed", ("Choice", *(columns[name] for name in shown)), rows),),
    )


def _segments(facts: CardFacts) -> Section:
    if not facts.segments:
        return Section("Where it is weak", ("It has not been judged by segment yet.",))
    rows = sorted(facts.segments, key=lambda row: (row["average_precision"] is None, row["average_precision"] or 0.0))

    def told(row: Mapping[str, Any]) -> tuple[str, ...]:
        value = row["value"] if row["value_range"] is None else f"{row['value']} ({row['value_range']})"
        found = row["average_precision"]
        shown = _between(found, row["average_precision_low"], row["average_precision_high"], number)
        return (
            f"{row['segment']}: {value}", shown if found is not None else str(row["reason"] or "-"),
            percent(row["prevalence"]), f"{row['n_fraud']:,}", f"{row['n']:,}",
            _optional(row["recall_at_threshold"], percent), _optional(row["expected_over_observed"], number),
        )  # fmt: skip

    columns = (
        "Segment", "Average precision (95 %)", "By chance", "Frauds", "Transactions", "Frauds flagged",
        "Expected for each found",
    )  # fmt: skip
    month = f"{rows[0]['month']:%Y-%m}"
    return Section(
        "Where it is weak",
        ("By segment, the weakest first; segments with too few frauds come last.",),
        tables=(Cells(f"Segments, judged in {month}", columns, tuple(map(told, rows))),),
    )


def _features(facts: CardFacts) -> Section:
    found = facts.behaviour
    if found is None:
        return Section("What it looks at", ("The rows that this is drawn from are not stored any more.",))
    unit = {"log_odds": "log odds", "share": "share of fraud"}.get(found.unit or "")
    meanings = feature_descriptions(facts.contract)
    figures, tables = [], []
    sentences = [f"On {found.n:,} transactions of {found.month}, evenly taken."]
    if unit is None:
        sentences.append("This version has no attributions: it was trained before they were kept.")
    else:
        moved = [(name, value) for name, value in found.importance.items() if value > 0]
        top = moved[:SHOWN_FEATURES]
        sentences.append(f"Importance is how far a feature moves a score on average, in {unit}.")
        if top:
            said = f"Importance of {len(top)} features, the first {top[0][0]}"
            figures.append(Figure("What moves scores most", bars(top, said, number)))
        rows = tuple((name, number(value), meanings.get(name, "-")) for name, value in found.importance.items())
        tables.append(
            Cells("Every feature by its importance", ("Feature", "Moves by", "What it is"), rows, folded=True)
        )
    for name, points in found.curves.items():
        drawn = [(_value(point.value), point.score) for point in points]
        said = f"Mean score by {name}"
        cells = Cells(
            f"Mean score by {name}", ("Value", "Mean score"), tuple((value, percent(score)) for value, score in drawn)
        )  # fmt: skip
        figures.append(Figure(f"Mean score by {name}", bars(drawn, said, percent), cells))
    if found.curves:
        sentences.append(
            "The other pictures show the mean score if all transactions had that value of a feature, and their own of "
            "all others. Values of features that go together may then never occur."
        )
    return Section("What it looks at", tuple(sentences), tables=tuple(tables), figures=tuple(figures))


def _limits(facts: CardFacts) -> Section:
    """What is known of where it ends, from what is stored."""
    manifest, contract = facts.manifest, facts.contract
    points = ["A reason or an importance says what moves the model, and not what causes fraud."]
    if manifest.training_from and manifest.training_to:
        days = (manifest.training_to - manifest.training_from).days
        if days < 365:
            points.append(f"It has seen {days + 1} days: not every season, and no holiday that is not among them.")
    if facts.n_fraud is not None and facts.n_fraud < FEW_FRAUDS:
        points.append(f"It learned from {facts.n_fraud} frauds; all that is said of it is as uncertain as that.")
    if not contract.amount:
        points.append("The source has no amounts, so losses are the same for each fraud, and no value is measured.")
    if contract.card is None:
        points.append("The source has no entity whose days are reviewed: every transaction is a review of its own.")
    points.append(
        f"A fraud counts as one when it is reported; what nobody reports in {contract.maturity_days:g} days is taken "
        "for genuine." if contract.label.blank != "unknown" else
        "It learned from those transactions alone that somebody looked into."
    )  # fmt: skip
    points += [f"{name} is not used: it {why}" for name, why in manifest.encoding.unused.items()]
    short = sorted({f"{row['segment']}: {row['value']}" for row in facts.segments if row["average_precision"] is None})
    if short:
        told = f"{', '.join(short[:10])}{', ...' if len(short) > 10 else ''}"
        points.append(f"Segments with too few frauds to judge it in: {told}.")
    if not facts.evaluation:
        points.append("It has not been judged on transactions from after its training.")
    return Section("Known limits", points=tuple(points))


def _drift(facts: CardFacts) -> Section:
    if not facts.verdicts:
        return Section("Drift since", ("There is no drift report of a later month yet.",))
    rows = tuple(
        (
            month,
            str(row["drift_status"]).replace("INSUFFICIENT_DATA", "NOT ENOUGH DATA"),
            "none" if row["champion_version"] is None else f"v{row['champion_version']}",
            in_short(row["blame"], reasons_from_json(row["reasons"]), has_champion=row["champion_version"] is not None)
            or "-",
        )
        for month, row in sorted(facts.verdicts.items())
    )
    return Section(
        "Drift since",
        ("Each month is compared with the months before it, with the model that was live then.",),
        tables=(Cells("Drift reports of later months", ("Month", "Verdict", "Live", "Why"), rows),),
    )


def _history(facts: CardFacts) -> Section:
    mine = [event for event in facts.events if event.model_version == facts.manifest.model_version]
    rows = tuple(
        (
            f"{event.number}", EVENTS.get(event.kind, event.kind), event.month,
            f"{event.recorded_at.astimezone(UTC):%Y-%m-%d %H:%M}", event.actor, joined(event.reasons),
        )
        for event in mine
    )  # fmt: skip
    if not rows:
        return Section("What the ledger says", ("The ledger does not name it.",))
    columns = ("Event", "What", "On the evidence of", "Written (UTC)", "By", "Why")
    return Section("What the ledger says", tables=(Cells("Its events", columns, rows),))


def _made(facts: CardFacts) -> Section:
    registered = next(
        (
            event
            for event in facts.events
            if event.kind == "registered" and event.model_version == facts.manifest.model_version
        ),
        None,
    )
    terms = [("Software of this card", f"fraud-assets {facts.platform}"), ("ONNX model", facts.manifest.model_digest)]
    for table, digests in sorted(registered.evidence.items() if registered else ()):
        read = ", ".join(f"{month} {digest[:12]}".strip() for month, digest in sorted(digests.items()) if digest)
        if read:
            terms.append((f"Made of {table}", read))
    return Section(
        "How it was made",
        (f"fraud reproduce {facts.manifest.model_version} makes it again from these rows.",),
        tuple(terms),
    )


# Words


def _say(name: str) -> Callable[[float], str]:
    return percent if name in SHARES else number


def _named(label: str, facts: CardFacts) -> str:
    cards = facts.cards if not label.startswith("{cards}") else _capital(facts.cards)
    return label.replace("{cards}", cards).replace("{currency}", facts.currency)


def _choice(name: str, facts: CardFacts) -> str:
    return name.replace("cards", facts.cards)


def _choice_cell(name: str, value: str | float) -> str:
    if isinstance(value, str):
        return value or "-"
    if name == "threshold":
        return f"{value:.4f}"
    return percent(value) if name in ("precision", "recall", "value_detected") else number(value)


def _between(value: float | None, low: float | None, high: float | None, say: Callable[[float], str]) -> str:
    if value is None:
        return "-"
    return say(value) if low is None or high is None else f"{say(value)} [{say(low)}, {say(high)}]"


def _optional(value: float | None, say: Callable[[float], str]) -> str:
    return "-" if value is None else say(value)


def _value(value: float | str | None) -> str:
    if value is None:
        return "missing"
    return number(value) if isinstance(value, float | int) else value


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _day(moment: datetime | date) -> str:
    return f"{moment:%Y-%m-%d}"


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "-"
