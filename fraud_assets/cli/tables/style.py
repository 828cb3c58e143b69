"""What tables have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LEFT: dict[str, Any] = {"title_justify": "left", "title_style": ""}


def optional(value: float | None, say: Callable[[float], str]) -> str:
    """A figure in words; a dash where there is none."""
    return "-" if value is None else say(value)
