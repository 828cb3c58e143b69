"""Scores that the service keeps: what it needs for that, and how many there are.

What becomes of them belongs to `defs/model_performance.py` and `defs/serving_skew.py`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.scores.spool import spooled_bytes
from fraud_assets.adapters.scores.state import read_states
from fraud_assets.settings import Settings

MEGABYTE = 2**20


def scores_environment(settings: Settings) -> dict[str, str]:
    """The variables by which a service knows where it keeps scores, and what it lets through.

    Raises:
        ValueError: when something is to be let through, and nobody said up to which amount.
        OSError: when the secret cannot be written.
    """
    environment = {
        "FRAUD_SCORES_FOLDER": str(settings.scores_path),
        "FRAUD_SCORES_SPOOL_MB": str(settings.scores_spool_mb),
        "FRAUD_PASS_THROUGH": str(settings.pass_through),
    }
    if not settings.pass_through:
        return environment
    if settings.pass_through_amount is not None:
        environment["FRAUD_PASS_THROUGH_AMOUNT"] = str(settings.pass_through_amount)
    elif settings.loaded_contract.amount:
        raise ValueError(
            f"FRAUD_PASS_THROUGH is {settings.pass_through:g}: say with FRAUD_PASS_THROUGH_AMOUNT which is the largest "
            "amount that is let through"
        )
    given = settings.pass_through_seed
    environment["FRAUD_PASS_THROUGH_SEED"] = (
        _own_seed(settings.pass_through_seed_file) if given is None else given.get_secret_value()
    )
    return environment


def _own_seed(file: Path) -> str:
    """The secret in a file, which is made where there is none: another one would choose others."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text(encoding="ascii")
    with os.fdopen(handle, "w", encoding="ascii") as output:
        output.write(secrets.token_hex(32))
    return file.read_text(encoding="ascii")


def read_kept(store: MonthStore, folder: Path) -> dict[str, Any] | None:
    """How many scores are kept, wait or are lost.

    Args:
        store: the tables.
        folder: of those that wait.

    Returns:
        `month`, the newest with scores, `n_rows` and `last_scored_at` of it, None without any; `waiting`, scores of
        running services that the database does not have, and `spool_bytes`, what is on disk; `lost`, how many are
        nowhere, by reason, and `last_lost_at`; `error`, why the database takes none; all of it in a `sentence`. None
        where no score was ever kept here.
    """
    newest = store.database.rows(
        "scored_months", "SELECT month, n_rows, last_scored_at FROM scored_months ORDER BY month DESC LIMIT 1"
    )
    state, _ = read_states(folder)
    size = spooled_bytes(folder)
    if not newest and not size and not state.waiting and not state.n_lost:
        return None
    month, n_rows, last = newest[0] if newest else (None, 0, None)
    found = {
        "month": month, "n_rows": n_rows, "last_scored_at": last, "waiting": state.waiting, "spool_bytes": size,
        "lost": dict(state.lost), "last_lost_at": state.last_lost_at, "error": state.error, "refused": state.refused,
    }  # fmt: skip
    return found | {"sentence": _in_words(found)}


def _in_words(found: dict[str, Any]) -> str:
    last = found["last_scored_at"]
    said = ["Scores: none is in the database yet"]
    if last is not None:
        said = [f"Scores: {found['n_rows']:,} of {found['month']} are kept, the last of {last:%Y-%m-%d %H:%M} UTC"]
    if found["waiting"] or found["spool_bytes"]:
        why = f" ({found['error']})" if found["error"] else ""
        said.append(f"{found['waiting']:,} wait, {found['spool_bytes'] / MEGABYTE:.1f} MB on disk{why}")
    if found["lost"]:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(found["lost"].items()))
        n_lost, at = sum(found["lost"].values()), found["last_lost_at"]
        said.append(f"{n_lost:,} are lost ({reasons}), the last at {at:%Y-%m-%d %H:%M} UTC")
    if found["refused"]:
        said.append(f"{found['refused']:,} were refused by the database")
    return "; ".join(said)
