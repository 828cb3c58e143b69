"""Connections of a service, which waits for nothing for long."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote


def connect(url: str, name: str, connect_seconds: int, statement_seconds: float) -> Any:
    """A connection on which each statement is committed at once: an open transaction keeps months from being swapped.

    Args:
        url: the database. What it says itself of these limits holds.
        name: by which the database's administrator knows the connection.
        connect_seconds: that connecting may take.
        statement_seconds: that a statement may take, and a network that was cut is waited for.

    Raises:
        adbc_driver_manager.Error: when there is none.
    """
    # Here, because it brings pandas where that is installed: two seconds at the start of every
    # service and every build, for those without a database too.
    import adbc_driver_postgresql.dbapi as adbc

    limits = {
        "connect_timeout": connect_seconds, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
        "tcp_user_timeout": round(1000 * statement_seconds),
    }  # fmt: skip
    missing = [f"{option}={value}" for option, value in limits.items() if f"{option}=" not in url]
    given = "&".join([*missing, f"application_name={quote(name)}"])
    connection = adbc.connect(f"{url}{'&' if '?' in url else '?'}{given}", autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = '{statement_seconds}s'")
    except BaseException:
        connection.close()
        raise
    return connection
