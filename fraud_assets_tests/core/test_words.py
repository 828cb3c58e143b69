"""Shares and days: written and counted in one way everywhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_assets.core import units
from fraud_assets.core.words import adjusted_p, number, percent

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("fraud_assets", "bentos") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0.0 %"), (0.0084, "0.84 %"), (0.0199, "1.99 %"), (0.02, "2.0 %"), (0.1234, "12.3 %"), (1.0, "100.0 %")],
)
def test_a_share_below_two_percent_has_two_places_and_others_one(share: float, said: str) -> None:
    assert percent(share) == said


@pytest.mark.parametrize(("value", "said"), [(0.012345, "0.0123"), (99.96, "100"), (14567.8, "14,568")])
def test_a_number_has_three_digits_or_all_before_the_point(value: float, said: str) -> None:
    assert number(value) == said


def test_a_day_has_86_400_million_microseconds() -> None:
    assert units.MICROSECONDS_PER_DAY == 24 * 60 * 60 * 10**6


def _own_percents(tree: ast.AST) -> Iterator[int]:
    """The lines in which a share is written by a rule of their own: in an f-string, or by a format such as `.1%`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[+,]*\.\d%", node.value):
            yield node.lineno
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            spec = "".join(part.value for part in node.format_spec.values if isinstance(part, ast.Constant))
            if spec.endswith("%") and "." not in spec:
                yield node.lineno


def _own_days(tree: ast.AST) -> Iterator[int]:
    """The lines in which the length of a day is written as a number."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in (86_400, 8.64e10):
            yield node.lineno


@pytest.mark.parametrize(
    ("found_in", "source", "lines"),
    [
        (_own_percents, 'f"{share:.2%}"\nformat(share, "+.1%")\nf"{share:%}"\nf"{moment:%Y}"', [1, 2, 3]),
        (_own_days, "DAY = 86_400_000_000\nSECONDS = 86400.0\nYEAR = 365", [1, 2]),
    ],
)
def test_a_rule_of_its_own_would_be_found(found_in, source, lines) -> None:
    assert sorted(found_in(ast.parse(source))) == lines


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_no_module_writes_shares_or_days_by_a_rule_of_its_own(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(_own_percents(tree)) == []
    if path.name != "units.py":
        assert list(_own_days(tree)) == []


@pytest.mark.parametrize(
    ("p", "said"), [(0.0, "below 0.001"), (0.00099, "below 0.001"), (0.001, "0.001"), (1, "1.000")]
)
def test_a_small_p_is_never_written_as_nil(p: float, said: str) -> None:
    assert adjusted_p(p) == f"adjusted p {said}"
