"""What is tried again: a step of the graph that met a database that was away for a moment, and no other.

Dagster's own `RetryPolicy` would repeat every error, wrong data and a Ctrl-C too, so the step itself asks for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import adbc_driver_manager
import dagster as dg
import psycopg

from fraud_assets.core.errors import causes, disk_is_full

Compute = TypeVar("Compute", bound=Callable[..., Any])

MAX_RETRIES = 2
# A PostgreSQL that was restarted, or has switched to another machine, answers again by then.
SECONDS_TO_WAIT = 10.0
# Classes and codes of SQLSTATE: connection lost, transaction rolled back for another's sake, server going down or
# coming up, too many connections. https://www.postgresql.org/docs/current/errcodes-appendix.html
PASSING = ("08", "40", "57P", "53300")


def is_passing(error: BaseException) -> bool:
    """Whether the same may succeed in a moment.

    >>> is_passing(ValueError("row 7 has no amount")), is_passing(psycopg.errors.DeadlockDetected())
    (False, True)
    """
    if disk_is_full(error):
        return False
    for one in causes(error):
        state = getattr(one, "sqlstate", None)
        if state is not None and state.startswith(PASSING):
            return True
        # libpq itself gives no state: the server was not reached, or the connection was cut.
        if isinstance(one, psycopg.OperationalError) and state is None:
            return True
        if isinstance(one, adbc_driver_manager.Error) and one.status_code == adbc_driver_manager.AdbcStatusCode.IO:
            return True
    return False


@contextmanager
def retrying() -> Iterator[None]:
    """Asks Dagster to run the step again, up to twice, when what failed in the block was only a moment's trouble."""
    try:
        yield
    except Exception as error:
        if not is_passing(error):
            raise
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=SECONDS_TO_WAIT) from error


def retried(compute: Compute) -> Compute:
    """The body of an asset, in `retrying`."""
    if inspect.isgeneratorfunction(compute):

        @functools.wraps(compute)
        def generate(*args: Any, **options: Any) -> Iterator[Any]:
            with retrying():
                yield from compute(*args, **options)

        return cast("Compute", generate)

    @functools.wraps(compute)
    def call(*args: Any, **options: Any) -> Any:
        with retrying():
            return compute(*args, **options)

    return cast("Compute", call)
