"""What tests of the UIs need beside `benchmarks/browser.py`: a browser or a loud skip, and patience."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from selenium.common.exceptions import StaleElementReferenceException

from benchmarks.browser import browser_missing

T = TypeVar("T")


def require_browser() -> None:
    """Skips the test where no browser is installed; fails it where CI is set."""
    if (missing := browser_missing()) is None:
        return
    message = f"THE UIS WERE NOT LOOKED AT: {missing}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def wait(condition: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """The first truthy value of `condition`.

    Raises:
        TimeoutError: naming what was waited for.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except StaleElementReferenceException:
            pass  # the page was drawn anew in between
        time.sleep(0.25)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")
