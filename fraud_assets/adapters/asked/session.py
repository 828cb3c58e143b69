"""A connection on which a service writes, a transaction at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import adbc_driver_manager
import pyarrow as pa

from fraud_assets.adapters.online.connecting import connect
from fraud_assets.adapters.online.history import DATABASE_VARIABLE

logger = logging.getLogger("bentoml.fraud_scorer")

Answer = TypeVar("Answer")
Ask = Callable[..., pa.Table]
"""Runs a statement in the transaction: its text, and what its one parameter `$1` has, which is sent as JSON."""

CONNECT_SECONDS = 3
STATEMENT_SECONDS = 10
NO_TABLE, NOT_ALLOWED = "42P01", "42501"


class AskedError(ConnectionError):
    """The database does not take it now; the message is fit for a caller and holds no part of the database's URL."""


class Session:
    """One connection, made at first use and again after it broke; for one thread at a time."""

    def __init__(self, url: str, name: str, *, is_logged: bool = True) -> None:
        """Takes a `postgresql://` URL.

        Args:
            url: of the database.
            name: by which its administrator knows the connection.
            is_logged: whether each refusal is; who asks again and again says it once.
        """
        self._url, self._name, self._is_logged = url, name, is_logged
        self._connection: Any = None

    def transact(self, work: Callable[[Ask], Answer]) -> Answer:
        """What the work gives; everything that it asked is there afterwards, or nothing is.

        Args:
            work: is given what runs a statement. May be called twice, where the connection had been cut since it was
                last used, so it has to be as good twice as once.

        Raises:
            AskedError: when the database cannot be reached, or refuses; where its answer was lost, it may have it.
        """
        for last in (self._connection is None, True):
            try:
                if self._connection is None:
                    self._connection = connect(self._url, self._name, CONNECT_SECONDS, STATEMENT_SECONDS)
                return self._once(work)
            except adbc_driver_manager.Error as error:
                self.close()
                if last or not isinstance(error, adbc_driver_manager.OperationalError):
                    raise self._refusal(error) from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            with suppress(adbc_driver_manager.Error):
                self._connection.close()
            self._connection = None

    def _once(self, work: Callable[[Ask], Answer]) -> Answer:
        transaction = self._connection.adbc_connection
        transaction.set_autocommit(False)
        try:
            answer = work(self._ask)
        except adbc_driver_manager.Error:
            raise
        except BaseException:
            transaction.rollback()
            transaction.set_autocommit(True)
            raise
        # This commits.
        transaction.set_autocommit(True)
        return answer

    def _ask(self, statement: str, given: Any = None) -> pa.Table:
        parameters = None if given is None else pa.record_batch([pa.array([json.dumps(given)])], names=["given"])
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetch_arrow_table()

    def _refusal(self, error: adbc_driver_manager.Error) -> AskedError:
        # Not the database's own words in the answer: they may have a value in them.
        if self._is_logged:
            logger.error("the database refuses what a caller asked for: SQLSTATE %s", error.sqlstate or "none")
        if error.sqlstate == NO_TABLE:
            return AskedError("the database lacks a table for this: `fraud db upgrade` adds it")
        if error.sqlstate == NOT_ALLOWED:
            return AskedError(f"the user of {DATABASE_VARIABLE} may not write this; grant it INSERT")
        return AskedError(
            f"the database of {DATABASE_VARIABLE} cannot be reached or did not answer in time; send it again: what was "
            "taken already is not taken twice"
        )
