"""The error of everything here that talks to PostgreSQL."""

from __future__ import annotations

from fraud_assets.core.errors import PlatformError


class DatabaseError(PlatformError):
    """The database cannot be used; the message says why and what to do."""
