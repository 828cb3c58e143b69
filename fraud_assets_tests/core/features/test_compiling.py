"""What was compiled is found again by those it is right for, and where it cannot be kept, nothing fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fraud_assets.core.features import compiling

TWICE = """
import numba
from fraud_assets.core.features.compiling import compiled
@compiled(numba.int64(numba.int64))
def twice(number):
    return 2 * number
"""
ALONE = "from fraud_assets.core.features.few import twice; print(twice(2), sum(twice.stats.cache_hits.values()))"


def copy_of(root: Path, other: str = "") -> Path:
    """A package with the platform's own way of compiling, one function, which is quickly compiled, and another file."""
    package = root / "fraud_assets/core/features"
    package.mkdir(parents=True)
    for folder in (root / "fraud_assets", root / "fraud_assets/core", package):
        (folder / "__init__.py").write_text("")
    (package / "compiling.py").write_bytes(Path(compiling.__file__).read_bytes())
    (package / "few.py").write_text(TWICE)
    (root / "fraud_assets/core/other.py").write_text(other)
    return root


def ask(root: Path, **given: str) -> str:
    """What a process says that works on the package."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE],
        env=outside | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | given,
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout or done.stderr


def test_without_a_place_for_what_was_compiled_it_is_compiled_at_each_start(tmp_path: Path) -> None:
    """As in a container whose files are read-only, home included: sources that cannot be written beside."""
    package = copy_of(tmp_path) / "fraud_assets/core/features"
    # A file where the folder would be made: that stops even those who may write anywhere.
    (package / "__pycache__").write_text("")
    nowhere = tmp_path / "nowhere"
    nowhere.write_text("")
    assert ask(tmp_path, HOME=str(nowhere)) == "4 0\n"
    assert ask(tmp_path, HOME=str(nowhere), NUMBA_CACHE_DIR=str(nowhere)) == "4 0\n"


def test_the_same_sources_elsewhere_are_compiled_once_and_others_for_themselves(tmp_path: Path) -> None:
    """Whatever differs: a function has the constants of other files in it."""
    first, second, changed = (copy_of(tmp_path / name, text) for name, text in (("a", ""), ("b", ""), ("c", "N = 1")))
    kept = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    assert [ask(root, **kept) for root in (first, second, changed)] == ["4 0\n", "4 1\n", "4 0\n"]
    assert not [*tmp_path.rglob("__pycache__")]
    assert len([*(tmp_path / "kept").iterdir()]) == 2
