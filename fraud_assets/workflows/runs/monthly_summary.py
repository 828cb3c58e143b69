"""The summary of a monthly run, in Markdown: the verdict, what is live, what is asked of whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fraud_assets.core.decisions.monthly import Exit

OUTCOMES = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.WAITS_FOR_APPROVAL: "waits for an approval",
    Exit.DATA_REFUSED: "the data were refused",
    Exit.WAITS_FOR_DATA: "no complete month yet",
    Exit.BUSY: "another run is working on the month",
}


def summarize(outcome: Mapping[str, Any], status: Mapping[str, Any], found: Exit) -> str:
    """The summary.

    Args:
        outcome: as `run_monthly` returns it.
        status: as `read_status` returns it, after the run.
        found: what the run ends with.
    """
    about = outcome["months"][-1]["month"] if outcome["months"] else outcome["waits_for"] or outcome["newest"]
    lines = [
        f"# {status['contract']}, {about}: {OUTCOMES[found]}",
        "",
        f"- **Months run:** {', '.join(one['month'] for one in outcome['months']) or 'none'}",
        f"- **Drift:** {_drift(status)}",
        f"- **Live:** {_live(status)}",
        f"- **Decision:** {_decision(status)}",
        "",
        "## What is asked of whom",
        "",
        *(list(_asked(outcome, status)) or ["Nothing."]),
    ]
    if status["why"]:
        lines += ["", "## What else to know", "", *(f"- {_text(one['sentence'])}" for one in status["why"])]
    return "\n".join(lines) + "\n"


def _drift(status: Mapping[str, Any]) -> str:
    drift = status["drift"]
    if drift is None:
        return "no report yet"
    first = next((reason["text"] for reason in drift["reasons"] or ()), "")
    return f"{drift['drift_status']} in {drift['month']:%Y-%m}{f': {_text(first)}' if first else ''}"


def _live(status: Mapping[str, Any]) -> str:
    live = status["champion"]
    if live is None:
        return "no model yet"
    return f"version {live['version']} since {live['since']:%Y-%m-%d}, on the evidence of {live['month']}"


def _decision(status: Mapping[str, Any]) -> str:
    decision = status["decision"]
    if decision is None:
        return "none yet"
    first = next((reason["text"] for reason in decision["reasons"] or ()), "")
    return f"{decision['validation_status']} in {decision['month']:%Y-%m}{f': {_text(first)}' if first else ''}"


def _asked(outcome: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[str]:
    for month in outcome["months"]:
        for one in month["failed"]:
            yield f"- **Operator**: {month['month']}, step `{one['step']}`: {_text(one['error'])}"
    for one in outcome["failed"]:
        yield f"- **Operator**: {one['month']}, rebuilding `{one['step']}`: {_text(one['error'])}"
    if outcome["waits_for"]:
        yield f"- **Whoever delivers the transactions**: {outcome['waits_for']} is not over, or not delivered yet."
    for one in status["waiting"]:
        yield (
            f"- **Approver**: version {one['version']} passed on {one['month']} and waits until "
            f"{one['until']:%Y-%m-%d %H:%M} UTC: `fraud approve {one['version']} --reason TEXT`, or `fraud reject`."
        )
    if status["stale"]:
        months = sorted({one["month"] for one in status["stale"]})
        yield f"- **Operator**: {len(months)} months are stale, from {months[0]} on: `fraud refresh` rebuilds them."
    for one in status["disagreements"]:
        yield f"- **Operator**: {_text(one['sentence'])}"


def _text(sentence: str) -> str:
    """A sentence that Markdown shows as it is: values of the data may be in it."""
    flat = " ".join(sentence.split())
    for sign in "\\`*_<>[]|":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
