"""What a served model needs of other packages: all of it, with versions and hashes from the project's lock.

Which packages the service imports is said here; how a bento takes them belongs to `bento.py`.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fraud_assets.core.errors import PlatformError

# What the service imports, and what serves it.
SERVING_PACKAGES = (
    "adbc-driver-postgresql",
    "bentoml",
    "dataframely",
    "duckdb",
    "numba",
    "numpy",
    "onnxruntime",
    "pandas",
    "polars",
    "prometheus-client",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "starlette",
)
# Where a bento may be served: what is needed in one of these is listed, with the lock's own condition.
ENVIRONMENTS = [
    {"sys_platform": system, "platform_system": name, "platform_machine": machine, "python_version": version,
     "python_full_version": f"{version}.0", "os_name": "posix", "implementation_name": "cpython",
     "platform_python_implementation": "CPython"}
    for system, name, machine in
    (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
    for version in ("3.11", "3.12", "3.13", "3.14")
]  # fmt: skip
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")
REMEDY = "`make setup` installs what the lock says, and `make lock` rewrites it"


class RequirementsError(PlatformError):
    """What serving needs cannot be said; the message says why."""


def hashed_requirements(lock: Path) -> str:
    """Lines for `pip install --require-hashes`: what serving imports and everything that this needs, and no more.

    Args:
        lock: the project's requirements.lock.

    Raises:
        RequirementsError: when the lock is missing, or lacks what is installed here, with which the model was tried.
    """
    try:
        entries = _entries(lock.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequirementsError(f"the lock {lock} cannot be read: {error}; give the project's root") from error
    lines = []
    for name in sorted(_needed()):
        installed = _installed(name)
        pinned = [version for version, _ in entries.get(name, [])]
        if installed is not None and installed not in pinned:
            raise RequirementsError(
                f"{name} {installed} is installed, and the lock {lock} has {' and '.join(pinned) or 'none'}: serving "
                f"would use another version than was tried; {REMEDY}"
            )
        lines += [entry for _, entry in entries.get(name, [])]
    return "\n".join(lines) + "\n"


def _entries(text: str) -> dict[str, list[tuple[str, str]]]:
    """Versions and lines of a lock by package; a package may have several versions, each with its condition."""
    found: dict[str, list[tuple[str, str]]] = {}
    for block in re.split(r"\n(?=\S)", text):
        lines = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if lines and (pin := PINNED.match(lines[0])):
            found.setdefault(canonicalize_name(pin[1]), []).append((pin[2], "\n".join(lines)))
    return found


def _needed() -> set[str]:
    """What serving imports, and what these need, on any machine that a bento may be served on."""
    waiting, seen = [(name, frozenset[str]()) for name in SERVING_PACKAGES], set[tuple[str, frozenset[str]]]()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if _installed(name) is None:
            if name in SERVING_PACKAGES:
                raise RequirementsError(f"{name} is not installed, and serving needs it; {REMEDY}")
            # Of another kind of machine, as the lock's condition says.
            continue
        waiting += _requirements(name, extras)
    return {name for name, _ in seen}


def _requirements(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in importlib.metadata.requires(name) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(
            marker.evaluate({**environment, "extra": extra})
            for environment in ENVIRONMENTS
            for extra in (extras or {""})
        ):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
