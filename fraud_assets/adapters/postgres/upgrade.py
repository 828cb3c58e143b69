"""The version of a database's tables: told in a sentence, and brought up to date.

What the tables are, and which revisions there are, belongs to `adapters/postgres/schema.py`.
"""

from __future__ import annotations

from typing import Any

from fraud_assets.adapters.postgres.database import locate_database, open_database
from fraud_assets.adapters.postgres.schema import REVISIONS, SchemaVersion
from fraud_assets.settings import Settings


def describe(version: SchemaVersion) -> dict[str, Any]:
    """Where a database stands, as plain values.

    Returns:
        `revision`, None before the first; `newest`, the one that this version of the platform needs; `state`: empty,
        behind, current, ahead; `pending`, the revisions that it lacks; `contract`, whose months it holds; `sentence`,
        all of it for people.
    """
    has = f"The database has revision {version.revision}" if version.revision else "The database has no revision yet"
    sentences = {
        "empty": f"The database is empty; the first run creates its tables, at revision {REVISIONS[-1]}.",
        "behind": f"{has}, and this version of the platform needs {REVISIONS[-1]}: use `fraud db upgrade`.",
        "current": f"{has}, which is the newest.",
        "ahead": f"{has}, which a later version of the platform made; this one knows revisions up to {REVISIONS[-1]}.",
    }
    return {
        "revision": version.revision,
        "newest": REVISIONS[-1],
        "state": version.state,
        "pending": list(version.pending),
        "contract": version.contract,
        "sentence": sentences[version.state],
    }


def upgrade_database(settings: Settings) -> dict[str, Any]:
    """Brings the settings' database to the newest revision.

    Returns:
        `before`, the revision that it had, None before the first; `revision`, the one that it has now; `applied`, the
        revisions in between; `sentence`, the same for people.

    Raises:
        DatabaseError: when it belongs to another contract, or was made by a later version.
    """
    before = locate_database(settings).version()
    after = open_database(settings, writing=True).version()
    applied = list(before.pending)
    sentence = f"The database has revision {after.revision}, which is the newest; nothing was to be done."
    if applied:
        sentence = f"The database was brought to revision {after.revision} (applied: {', '.join(applied)})."
    return {"before": before.revision, "revision": after.revision, "applied": applied, "sentence": sentence}
