"""Reasons of decisions on retraining are data: rule, column and text apart, where they were an array of sentences.

Each sentence is kept as it is. Which rule it is about is told from the wording that versions up to now had, here and
nowhere else; what is not recognised has the rule `earlier_version`. The table has no months, so nothing becomes stale;
and the fact that a decision is known by stays, so that the sensor records none a second time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import psycopg
from alembic import op
from psycopg.types.json import Jsonb

revision = "0009"
down_revision = "0008"

Said: TypeAlias = dict[str, str | None]
"""rule, text and column of a reason."""

EARLIER = "earlier_version"
# The first that fits, and the column of its reason. One of a cool-down begins with what asked.
WORDINGS = (
    (r", but a model of \d{4}-\d\d (was trained instead|is in training), and two of them are at least ", "cool_down"),
    (r"^drift_status of \d{4}-\d\d is \w+; only DRIFT asks for a retraining$", "no_drift"),
    (r"^the data of \d{4}-\d\d look broken: ", "broken_data"),
    (r"^the labels of \d{4}-\d\d come otherwise than before: ", "broken_labels"),
    (r"^the data of \d{4}-\d\d drifted, but the policy does not retrain for drift$", "drift_off"),
    (r"^the data of \d{4}-\d\d drifted and no retraining was requested for this report yet$", "drifted"),
    (r"^the champion, version \d+, shows an average precision of at most ", "worse_than_promised"),
    (r"^the champion, version \d+, is \d+ months old at the end of ", "too_old"),
    (r"^a model is due (each month|every \d+ months), ", "model_due"),
    (r"^attempt \d+ for this .* failed; attempt \d+ of \d+$", "next_attempt"),
    (r"^attempt \d+ of \d+ for this .* failed; no further one is made", "given_up"),
    (r"^attempt \d+ for this .* failed; the next one is made from ", "waits"),
    (r"^attempt \d+ for this .* is in progress$", "in_progress"),
    (r"^the model was already retrained for this ", "already_retrained"),
)
MEASURED = {"worse_than_promised": "average_precision"}


def upgrade() -> None:
    """Turns every reason that is stored, in the transaction of the upgrade."""
    connection = cast("psycopg.Connection[Any]", op.get_bind().connection.driver_connection)
    rows = connection.execute("SELECT number, reasons FROM public.retraining_decisions").fetchall()
    connection.execute("ALTER TABLE public.retraining_decisions ALTER COLUMN reasons TYPE jsonb USING '[]'::jsonb")
    for number, sentences in rows:
        connection.execute(
            "UPDATE public.retraining_decisions SET reasons = %s WHERE number = %s",
            [Jsonb(reasons_of_decision(sentences)), number],
        )


def reasons_of_decision(sentences: Sequence[str | None]) -> list[Said]:
    """Why a month was retrained or not."""
    return [_told(text) for text in sentences if text]


def _told(text: str) -> Said:
    rule = next((rule for pattern, rule in WORDINGS if re.search(pattern, text)), EARLIER)
    return {"rule": rule, "text": text, "column": MEASURED.get(rule)}
