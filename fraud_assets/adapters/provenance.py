"""By what something was made: the platform's own version, and those of the libraries that compute."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

# What a model, its packaging and its scores come from.
LIBRARIES = (
    "bentoml", "mlflow", "numba", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "scikit-learn", "scipy", "skops",
)  # fmt: skip


@cache
def code_version(root: Path) -> str:
    """The platform's version, its commit where it runs from a checkout, and the first digits of its sources' digest.

    The digest tells a changed file from the commit's: it is SHA-256 over the names and bytes of all Python sources.

    Args:
        root: the folder that holds `fraud_assets/` and `bentos/`.
    """
    digest = hashlib.sha256()
    for folder in ("fraud_assets", "bentos"):
        for file in sorted((root / folder).rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(root).as_posix()}:{len(content)}:".encode())
            digest.update(content)
    return f"{_version()} ({_commit(root)}, sources {digest.hexdigest()[:12]})"


@cache
def library_versions() -> dict[str, str]:
    """The installed versions of Python and of what computes, by name; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _version() -> str:
    try:
        return importlib.metadata.version("fraud-assets")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit(root: Path) -> str:
    if not (root / ".git").exists():
        return "no commit"
    try:
        told = subprocess.run(  # noqa: S603 - no part of the command comes from outside
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - the user's own git
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "no commit"
    return f"commit {told.stdout.strip()}"
