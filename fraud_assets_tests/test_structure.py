"""The rules of the tree: how many modules a folder has, how long a function is, and how many parameters it takes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_assets.settings import PROJECT_ROOT

MOST_MODULES, MOST_LINES, MOST_PARAMETERS = 15, 60, 8
# `core` has a folder a subject; `defs` is one file an asset, as Dagster reads it.
FOLDERS = {"fraud_assets/core": 8, "fraud_assets/defs": None}
TREES = ("fraud_assets", "bentos")


def files() -> Iterator[Path]:
    for tree in TREES:
        yield from sorted((PROJECT_ROOT / tree).rglob("*.py"))


def too_large(source: str) -> list[str]:
    """The functions that are too long or take too much, and have no comment above them that says why."""
    lines, found = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        of = node.args
        taken = [*of.posonlyargs, *of.args, *of.kwonlyargs, *filter(None, (of.vararg, of.kwarg))]
        n_parameters = sum(one.arg not in ("self", "cls") for one in taken)
        n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
        above = lines[first - 2].strip() if first > 1 else ""
        if (n_lines > MOST_LINES or n_parameters > MOST_PARAMETERS) and not above.startswith("# "):
            found.append(f"{node.name}: {n_lines} lines, {n_parameters} parameters")
    return found


def test_no_folder_has_more_modules_than_one_looks_through() -> None:
    n_modules: dict[str, int] = {}
    for file in files():
        folder = file.parent.relative_to(PROJECT_ROOT).as_posix()
        n_modules[folder] = n_modules.get(folder, 0) + (file.name != "__init__.py")
    assert set(FOLDERS) <= set(n_modules)
    most = {folder: FOLDERS.get(folder, MOST_MODULES) for folder in n_modules}
    over = {folder: n for folder, n in n_modules.items() if (limit := most[folder]) is not None and n > limit}
    assert not over, f"more modules than {MOST_MODULES} ({FOLDERS}); make a folder of what belongs together: {over}"


def test_a_function_is_short_and_takes_little_or_a_comment_above_it_says_why() -> None:
    found = [f"{file.relative_to(PROJECT_ROOT)}: {one}" for file in files() for one in too_large(file.read_text())]
    assert not found, "cut them, or say above each why it is better whole: " + "; ".join(found)


LONG = "def f():\n" + "    g()\n" * MOST_LINES
WIDE = f"def f(self, {', '.join(f'a{n}' for n in range(MOST_PARAMETERS - 1))}, *more, **others): ...\n"


@pytest.mark.parametrize(
    ("source", "is_refused"),
    [
        (LONG, True),
        (LONG.replace("    g()\n", "", 1), False),
        ("# One step after another.\n" + LONG, False),
        ("# One step after another.\n@once\n" + LONG, False),
        ("@once  # a decorator\n" + LONG, True),
        ("class C:\n" + "".join(f"    {line}\n" for line in LONG.splitlines()), True),
        (WIDE, True),
        (WIDE.replace(", **others", ""), False),
        ("# Each by its name.\n" + WIDE, False),
        ("async " + WIDE, True),
    ],
)
def test_what_is_too_large_is_found_wherever_it_stands(source: str, is_refused: bool) -> None:
    assert bool(too_large(source)) is is_refused
