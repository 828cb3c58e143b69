"""The monthly report: one page that says what a month's drift report means, and shows what it rests on.

The page is made of what is stored, and of nothing else: the same rows give the same page, on any machine and at any
later time. It needs no network and no script. Its words and what is shown in which order belong here, its looks to
`templates/report.html`, its plots to `charts.py`; where the facts come from is in `workflows/report_page.py`, and
what is drift in `core/monitoring/month.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from fraud_assets.core.drift.findings import SCORE, Cause, DriftKind, DriftStatus, Finding
from fraud_assets.core.drift.histograms import Histogram
from fraud_assets.core.evaluation.evaluation import NOBODY
from fraud_assets.core.labels.completeness import Completeness, MonthCompleteness
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.monitoring.month import VERDICT, earlier_reports
from fraud_assets.core.monitoring.pictures import MOST_COLUMNS, Pictures, in_order, stored_pictures
from fraud_assets.core.monitoring.verdict import Blame, in_sentences, next_step
from fraud_assets.core.reasons import reasons_from_json
from fraud_assets.core.words import number, percent
from fraud_assets.pages.charts import Point, by_month, delays, shares, shares_by_bin
from fraud_assets.pages.templating import template

SHOWN_MONTHS = 12  # a year, so that a season is beside the same one
SHOWN_MOVED = 25  # rows that are open; what is more is a click away, so that two hundred features stay a page
# A sign beside each colour, for those who cannot tell the colours apart and for print.
MARKS: dict[DriftStatus, str] = {"OK": "✓", "WATCH": "!", "DRIFT": "▲", "INSUFFICIENT_DATA": "?"}
STATUS_WORDS: dict[DriftStatus, str] = {
    "OK": "OK", "WATCH": "WATCH", "DRIFT": "DRIFT", "INSUFFICIENT_DATA": "NOT ENOUGH DATA"
}  # fmt: skip
HEADLINES: dict[DriftStatus, str] = {
    "OK": "No change to act on.",
    "WATCH": "Something may have moved; nothing is decided yet.",
    "DRIFT": "The month is not like those it is compared with.",
    "INSUFFICIENT_DATA": "The month could not be compared.",
}
CAUSES: dict[Cause, str] = {
    "scaled": "all values by one factor",
    "few_entities": "a few customers changed much",
    "new_category": "new values or new entities",
    "volume": "more or fewer rows",
    "distribution": "other shares of the same values",
    "fraud_pattern": "frauds where the model expects none",
    "fraud_rate": "the same frauds, more or less often",
    "missing_values": "empty where it was not",
    "shifted_clock": "times are off by whole hours",
    "lost_feature": "the column is gone or constant",
    "missing_rows": "transactions were not delivered",
    "label_delay": "labels come later or sooner",
    "few_labels": "fewer frauds known than expected",
}
KINDS: dict[DriftKind, str] = {
    "covariate": "what comes in",
    "missing": "missing values",
    "category": "new values",
    "multivariate": "all features together",
    "prediction": "the model's scores",
    "label": "labels",
    "concept": "the model, on final labels",
    "estimate": "the model, estimated",
}
MEASURES = {
    "average_precision": "Average precision",
    "calibration": "Calibration: frauds found for each promised",
    "cost": "Cost of 1,000 transactions",
    "fraud_rate": "Fraud rate",
}


@dataclass(frozen=True)
class ChampionFacts:
    """What is known of the model that a month was compared for.

    Attributes:
        version: in the registry.
        manifest: what the model says of itself; None where the registry no longer has it.
        since: the month on whose evidence it went live; None where the ledger does not say.
    """

    version: int
    manifest: ModelManifest | None
    since: str | None


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """Everything the page is made of.

    Attributes:
        contract: its name.
        currency: of the amounts, where the contract says it.
        month: YYYY-MM, under report.
        as_of: the moment of knowledge, the month's end.
        rows: `drift_report` of this month and earlier ones, in any order.
        evaluation: `evaluation` of these months; those of later months are not shown.
        champion: the model it is about, if there was one.
        inputs: the digests of what the month's report was made of.
        platform: version of this software.
    """

    contract: str
    currency: str | None
    month: str
    as_of: datetime
    rows: pa.Table
    evaluation: pa.Table
    champion: ChampionFacts | None
    inputs: Inputs
    platform: str


def monthly_report(facts: ReportFacts) -> str:
    """The page, as HTML.

    Raises:
        ValueError: when the rows have no verdict on the month.
    """
    verdicts = {f"{row['month']:%Y-%m}": row for row in facts.rows.to_pylist() if row["kind"] == VERDICT}
    if facts.month not in verdicts:
        raise ValueError(f"there is no verdict on {facts.month} among the rows: materialise its drift_report first")
    verdicts = {month: verdicts[month] for month in sorted(verdicts) if month <= facts.month}
    reports = earlier_reports(facts.rows)
    findings = in_order(reports[facts.month].findings)
    moved = [finding for finding in findings if finding.status in ("DRIFT", "WATCH")]
    emptied = [finding for finding in findings if finding.kind == "missing" and _is_told(finding)]
    stored = stored_pictures(verdicts[facts.month])
    drawn = stored or Pictures()
    pictures = {one.feature: one for one in drawn.histograms}
    months = list(verdicts)[-SHOWN_MONTHS:]
    history = {month: reports[month].findings for month in months}
    return template("report.html").render(
        facts=facts,
        verdict=_verdict(facts.month, verdicts, moved),
        is_drawn=stored is not None,
        flagged=drawn.flagged,
        history=[_month_shown(month, verdicts[month], month == facts.month) for month in months],
        about=_about(facts, verdicts[facts.month]),
        measures=_measures(history),
        judged=[_row(finding) for finding in findings if finding.kind in ("concept", "estimate")],
        money=_money(facts),
        is_evaluated=any(
            f"{row['month']:%Y-%m}" == facts.month and row["role"] != NOBODY for row in facts.evaluation.to_pylist()
        ),
        moved=[_row(finding) for finding in moved[:SHOWN_MOVED]],
        more_moved=[_row(finding) for finding in moved[SHOWN_MOVED:]],
        pictures=[
            _picture(finding, pictures[finding.feature])
            for finding in _one_each(one for one in moved if one.kind != "missing")
            if finding.feature in pictures and finding.feature != SCORE
        ],
        score=_picture(None, pictures[SCORE]) if SCORE in pictures else None,
        scored=[_row(finding) for finding in findings if finding.kind == "prediction"],
        missing=[_row(finding) for finding in emptied],
        emptiness=_emptiness([finding for finding in emptied if finding.status != "OK"]),
        labelled=[_row(finding) for finding in findings if finding.kind == "label"],
        labels=_labels(drawn.completeness),
        delays=_delays(drawn.completeness),
        left_out=_left_out(facts, findings),
        unknown=[_row(finding) for finding in findings if finding.status == "INSUFFICIENT_DATA"],
        everything=[_row(finding) for finding in findings],
        made=_made(facts, findings),
        percent=percent,
        number=number,
    )


def _verdict(month: str, verdicts: Mapping[str, Mapping[str, Any]], moved: Sequence[Finding]) -> dict[str, Any]:
    row = verdicts[month]
    status: DriftStatus = row["drift_status"]
    blame: Blame | None = row["blame"]
    # What comes of it stands above them.
    reasons = in_sentences(None, reasons_from_json(row["reasons"]), has_champion=True)
    step = next_step(blame, has_champion=row["champion_version"] is not None)
    first = min((one.since for one in moved if one.status == status and one.since is not None), default=None)
    return {
        **_status(status),
        "headline": _sentence(step) if step and status == "DRIFT" else HEADLINES[status],
        "next": _next(status, blame),
        "reasons": reasons,
        "first": first,
        "run": _run(list(verdicts.items()), status),
    }


def _next(status: DriftStatus, blame: Blame | None) -> Markup:
    """What a person does now."""
    if blame == "data":
        return Markup(
            "Send this page to the owner of the feed. When the month is delivered again, <code>fraud refresh</code> "
            "rebuilds what was built on it."
        )
    if blame == "labels":
        return Markup(
            "Ask those who give the labels. <code>fraud labels completeness</code> says what is still expected, and "
            "<code>fraud labels add FILE</code> takes a file in at any time."
        )
    if status == "DRIFT":
        return Markup(
            "Look at what moved, below. The drift sensor asks for a retraining of this month if it is on; the new "
            "model goes live only if it is better on known labels."
        )
    if status == "WATCH":
        return Markup("Look at what moved, below. Nothing is retrained for it; the next month decides.")
    if status == "OK":
        return Markup("Nothing.")
    return Markup("See what was lacking, below; later months may have it.")


def _run(verdicts: Sequence[tuple[str, Mapping[str, Any]]], status: DriftStatus) -> int:
    """How many reports in a row say the same, this one included."""
    run = 0
    for _, row in reversed(verdicts):
        if row["drift_status"] != status:
            break
        run += 1
    return run


def _status(status: DriftStatus) -> dict[str, str]:
    return {"status": STATUS_WORDS[status], "style": status.lower().replace("_", "-"), "mark": MARKS[status]}


def _month_shown(month: str, row: Mapping[str, Any], is_this: bool) -> dict[str, Any]:
    return {**_status(row["drift_status"]), "month": month, "version": row["champion_version"], "is_this": is_this}


def _about(facts: ReportFacts, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The model and the windows, as terms and what is said of them."""
    told: list[tuple[str, str]] = []
    if facts.champion is None:
        told.append(("Champion", "none was live when the month ended"))
    else:
        manifest = facts.champion.manifest
        kind = manifest.family.replace("_", " ") if manifest else "no longer in the registry"
        told.append(("Champion", f"version {facts.champion.version}, {kind}"))
        if facts.champion.since:
            told.append(("Live since", f"the end of {facts.champion.since}, on its evidence"))
        if manifest and manifest.training_from and manifest.training_to:
            told.append(
                ("Trained on", f"{manifest.training_from:%Y-%m-%d} to {manifest.training_to:%Y-%m-%d}")
            )  # fmt: skip
    if row["reference_from"]:
        # The end of a window is the first moment after it.
        told.append(("Compared with", f"{row['reference_from']} up to {row['reference_to']}"))
    told.append(("As known at", f"{facts.as_of:%Y-%m-%d %H:%M} UTC"))
    return told


def _measures(history: Mapping[str, Sequence[Finding]]) -> list[dict[str, Any]]:
    """A picture for each thing that was measured of the champion, over the months."""
    points: dict[str, list[Point]] = {}
    for month, findings in history.items():
        for finding in findings:
            if finding.kind not in ("concept", "estimate") or finding.segment is not None:
                continue
            if finding.value_current is None and finding.value_low is None:
                continue
            points.setdefault(finding.feature, []).append(
                Point(
                    month, finding.value_current, finding.value_low, finding.value_high, finding.value_reference,
                    finding.kind == "estimate",
                )
            )  # fmt: skip
    shown = []
    for feature in sorted(points, key=lambda one: ([*MEASURES, one].index(one), one)):
        here = sorted(points[feature], key=lambda point: (point.month, point.estimated))
        last = here[-1]
        said = f"{_measure(feature)} in {len({point.month for point in here})} months; {last.month}: "
        said += _between(last.value, last.low, last.high, feature)
        if last.promise is not None:
            said += f", promised {_figure(last.promise, feature)}"
        shown.append({"title": _measure(feature), "svg": by_month(here, said, partial(_figure, name=feature))})
    return shown


def _measure(feature: str) -> str:
    return MEASURES.get(feature, feature.replace("_", " "))


def _money(facts: ReportFacts) -> list[dict[str, Any]]:
    """What the evaluations found of the champion, the newest month first."""
    rows = [
        row
        for row in facts.evaluation.to_pylist()
        if row["role"] == "champion" and f"{row['month']:%Y-%m}" <= facts.month
    ]
    rows = sorted(rows, key=lambda row: row["month"], reverse=True)[:SHOWN_MONTHS]
    return [
        {
            "month": f"{row['month']:%Y-%m}",
            "version": row["model_version"],
            "n": f"{row['n']:,}",
            "n_fraud": f"{row['n_fraud']:,}",
            "alerts": _optional(row["alerts_per_day"], "{:,.0f}".format),
            **{
                name: {
                    "value": _optional(row[name], partial(_figure, name=name)),
                    "interval": _interval(row[f"{name}_low"], row[f"{name}_high"], name),
                }
                for name in ("average_precision", "value_detection_rate", "expected_cost")
            },
        }
        for row in rows
    ]


def _row(finding: Finding) -> dict[str, Any]:
    """A finding as cells of a table."""
    before, now, interval = _figures(finding)
    return {
        **_status(finding.status),
        "feature": finding.feature or "everything",
        "segment": finding.segment,
        "kind": KINDS[finding.kind],
        "name": _measure(finding.feature) if finding.kind in ("concept", "estimate") else None,
        "before": before,
        "now": now,
        "interval": interval,
        "psi": _optional(finding.psi, "{:.3f}".format),
        "jensen_shannon": _optional(finding.jensen_shannon, "{:.3f}".format),
        "p": _chance(finding.p_adjusted),
        "cause": CAUSES[finding.cause] if finding.cause and finding.status in ("DRIFT", "WATCH") else "-",
        "since": f"{finding.since}" if finding.since else "-",
        "method": finding.method,
        "reason": finding.reason,
    }


def _figures(finding: Finding) -> tuple[str, str, str]:
    """Before, now and the interval, of the figure that says it best.

    That is what was measured, else the share of missing, or the median.
    """
    if finding.kind == "missing":
        return _optional(finding.missing_reference, percent), _optional(finding.missing_current, percent), ""
    if finding.value_reference is None and finding.value_current is None and finding.value_low is None:
        return _optional(finding.median_reference, number), _optional(finding.median_current, number), ""
    name = "share" if finding.kind == "category" or finding.cause == "few_entities" else finding.feature
    say = partial(_figure, name=name)
    interval = _interval(finding.value_low, finding.value_high, name)
    return _optional(finding.value_reference, say), _optional(finding.value_current, say), interval


def _figure(value: float, name: str) -> str:
    return percent(value) if name.endswith(("rate", "share", "known_frauds")) else number(value)


def _interval(low: float | None, high: float | None, name: str) -> str:
    return "" if low is None or high is None else f"{_figure(low, name)} to {_figure(high, name)}"


def _between(value: float | None, low: float | None, high: float | None, name: str) -> str:
    """A figure with its interval, as far as they are known."""
    interval = _interval(low, high, name)
    if value is None:
        return interval or "-"
    return f"{_figure(value, name)} ({interval})" if interval else _figure(value, name)


def _optional(value: float | None, say: Callable[[float], str]) -> str:
    return "-" if value is None else say(value)


def _chance(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _one_each(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest finding of each feature."""
    return list({finding.feature: finding for finding in reversed(list(findings))}.values())[::-1]


def _picture(finding: Finding | None, histogram: Histogram) -> dict[str, Any]:
    missing = None
    if histogram.missing_reference or histogram.missing_current:
        missing = f"{percent(histogram.missing_reference)} before, {percent(histogram.missing_current)} now"
    return {
        "feature": histogram.feature,
        "svg": shares_by_bin(histogram),
        "missing": missing,
        **(_status(finding.status) if finding else {}),
    }


def _is_told(finding: Finding) -> bool:
    """Whether a share of missing values moved far enough to be read."""
    if finding.status != "OK":
        return True
    return percent(finding.missing_reference or 0.0) != percent(finding.missing_current or 0.0)


def _emptiness(findings: Sequence[Finding]) -> Markup | None:
    """The shares of rows without a value, as far as they could be counted."""
    drawn = [
        (finding.feature, finding.missing_reference, finding.missing_current)
        for finding in findings
        if finding.missing_reference is not None and finding.missing_current is not None
    ][:MOST_COLUMNS]
    return shares(drawn, f"Shares of rows without a value, before and now, of {len(drawn)} columns") if drawn else None


def _left_out(facts: ReportFacts, findings: Sequence[Finding]) -> list[str]:
    """The features of the model that no finding is about."""
    if facts.champion is None or facts.champion.manifest is None:
        return []
    looked_at = {finding.feature for finding in findings}
    return [name for name in facts.champion.manifest.features if name not in looked_at]


def _labels(completeness: Completeness | None) -> list[dict[str, str]]:
    """Months of transactions with what is known of them, the newest first."""
    if completeness is None:
        return []
    return [_labels_of(month) for month in reversed(completeness.months)]


def _labels_of(month: MonthCompleteness) -> dict[str, str]:
    to_come = "-"
    if month.still_to_come is not None:
        to_come = f"{month.still_to_come:,.0f}"
        if month.still_to_come_low is not None and month.still_to_come_high is not None:
            to_come += f" ({month.still_to_come_low:,.0f} to {month.still_to_come_high:,.0f})"
    return {
        "month": month.month,
        "state": "too few" if month.is_short else "final" if month.is_matured else "provisional",
        "n": f"{month.n:,}",
        "n_fraud": f"{month.n_fraud:,}",
        "known": _optional(month.known_share, percent),
        "to_come": to_come,
    }


def _delays(completeness: Completeness | None) -> Markup | None:
    if completeness is None:
        return None
    half = _half_known(completeness)
    svg = delays([("months before", completeness.curve), ("this month", completeness.newest)], half)
    return svg or None


def _half_known(completeness: Completeness) -> str:
    """The delay curves in words: when half of the frauds are known."""
    said = []
    for name, curve in (("months before", completeness.curve), ("this month", completeness.newest)):
        reached = curve.days[curve.share >= 0.5]
        if len(reached):
            said.append(f"half of the frauds of {name} are known within {number(float(reached[0]))} days")
    return "Share of frauds known by days after the transaction: " + ("; ".join(said) or "too few are known")


def _made(facts: ReportFacts, findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """How the page was made, as terms and what is said of them."""
    methods = sorted({finding.method for finding in findings if finding.method not in ("", "none")})
    made = [
        ("Month", f"{facts.month} of {facts.contract}, everything as known at {facts.as_of:%Y-%m-%d %H:%M} UTC"),
        ("Tests", "; ".join(methods) or "none could be made"),
        ("Software", f"fraud-assets {facts.platform}"),
    ]
    if facts.champion and facts.champion.manifest:
        manifest = facts.champion.manifest
        made.append(
            (
                "Model",
                f"{manifest.model_name} version {manifest.model_version}, {len(manifest.features)} features, "
                f"threshold {manifest.threshold:.4f}, digest {manifest.model_digest[:12]}",
            )
        )
    for table, digests in sorted(facts.inputs.items()):
        read = ", ".join(f"{month} {digest[:12]}" for month, digest in sorted(digests.items()) if digest)
        if read:
            made.append((f"Rows of {table}", read))
    return made


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
