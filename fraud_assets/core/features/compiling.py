"""Functions compiled for this machine, at import, and where what was compiled is kept.

Which functions these are belongs to the modules that have them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import UserProvidedCacheLocator

Compiled = TypeVar("Compiled", bound=Callable[..., Any])

SOURCES = Path(__file__).parents[1]
CONFIG: Any = numba.config  # numba's own names are made when it is imported


class ByContent(UserProvidedCacheLocator):
    """Of NUMBA_CACHE_DIR, the place of the sources' content, wherever these lie.

    numba's own place is that of their path. Each package has its own copy of the same sources, and a service that
    began with another package compiled the same functions again, for six seconds.
    """

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """The place of a function's file; None where no folder is given, and for what others compile."""
        if not CONFIG.CACHE_DIR or not Path(py_file).is_relative_to(SOURCES):
            return None
        return super().from_function(py_func, py_file)  # type: ignore[no-untyped-call] # numba has few types

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        """A folder's name. Of all sources: a function has in it what it calls, and the constants of other files."""
        package = Path(py_file).relative_to(SOURCES).parent
        return "_".join([*package.parts, _digest_of_sources()])


@cache
def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for file in sorted(SOURCES.rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(SOURCES).as_posix()}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


# A setting of numba's, by which ours is asked before its own; a person's stays.
CONFIG.CACHE_LOCATOR_CLASSES = CONFIG.CACHE_LOCATOR_CLASSES or ",".join(
    [
        f"{__name__}.{ByContent.__name__}",
        *("UserProvidedCacheLocator", "InTreeCacheLocator", "UserWideCacheLocator"),
        *("IPythonCacheLocator", "ZipCacheLocator"),
    ]
)


def compiled(signature: Any) -> Callable[[Compiled], Compiled]:
    """Compiles a function for one signature, at once: no caller waits for it in the middle of a request.

    What was compiled is kept in NUMBA_CACHE_DIR, without that beside the function's file, or in the user's cache
    folder. Where none of these can be written (a read-only container, a full disk), it is compiled at each start, which
    takes some seconds.
    """

    def decorate(function: Compiled) -> Compiled:
        # Without the interpreter's lock: entities are gone through side by side.
        try:
            return cast(Compiled, numba.njit(signature, nogil=True, cache=True, error_model="numpy")(function))
        except (OSError, RuntimeError):  # numba says "no locator available" where it cannot write
            return cast(Compiled, numba.njit(signature, nogil=True, error_model="numpy")(function))

    return decorate
