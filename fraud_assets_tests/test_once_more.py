"""What failed is run once more, when it is little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fraud_assets.settings import PROJECT_ROOT

# Passes in its second process.
FIRST = """
from pathlib import Path

def test_that_meets_a_busy_machine():
    place = Path(__file__).with_suffix(".seen")
    seen = place.exists()
    place.touch()
    assert seen
"""
ALWAYS = "def test_of_something_broken():\n    assert False\n"
MANY = "import pytest\n\n@pytest.mark.parametrize('n', range(3))\ndef test_of_much(n):\n    assert False\n"
SETUP = "import pytest\n\n@pytest.fixture\ndef base():\n    raise OSError('no')\n\ndef test_on_it(base):\n    pass\n"


@pytest.mark.parametrize(
    ("text", "code", "again", "named"),
    [
        ("def test_well():\n    pass\n", 0, False, False),
        (FIRST, 0, True, True),
        (ALWAYS, 1, True, False),
        (SETUP, 1, True, False),
        (MANY, 1, False, False),
        ("import nothing_of_this_name\n", 2, False, False),
    ],
)
def test_few_failures_are_run_once_more_and_named(
    tmp_path: Path, text: str, code: int, again: bool, named: bool
) -> None:
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "fraud_assets_tests.once_more", "-q"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert ("once more, alone:" in done.stdout) == again, done.stdout
    assert ("PASSED ONLY ALONE" in done.stdout) == named, done.stdout
