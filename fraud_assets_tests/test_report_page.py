"""The monthly report in a browser: the verdict is seen first, nothing is asked for, and a phone shows all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from benchmarks.browser import open_browser, wait_for_text
from fraud_assets.pages.report import monthly_report
from fraud_assets_tests.browser import require_browser
from fraud_assets_tests.pages.test_report import FULL


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    require_browser()
    with open_browser(1200, 900) as opened:
        yield opened


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Any:
    """A report from a file, as `fraud report --open` shows it."""
    file = tmp_path / "report.html"
    file.write_text(monthly_report(FULL), encoding="utf-8")
    driver.get(file.as_uri())
    wait_for_text(driver, "How this was made")
    return driver


def test_the_verdict_is_on_the_first_screen(page: Any) -> None:
    verdict = page.find_element(By.CLASS_NAME, "verdict")
    assert verdict.text.startswith("\u25b2 DRIFT\nThe data look broken")
    assert verdict.rect["y"] < 200


def test_the_page_makes_no_request_and_breaks_no_rule_of_its_own(page: Any) -> None:
    asked = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert asked == []
    assert page.get_log("browser") == []


@pytest.mark.parametrize("width", [400, 1200])
def test_no_width_makes_the_page_scroll_sideways(page: Any, width: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    page.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") == width


def test_no_letter_of_a_picture_is_cut_off(page: Any) -> None:
    outside = page.execute_script("""
        return [...document.querySelectorAll('svg[role=img] text')].filter(text => {
            const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
            return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
        }).map(text => text.textContent)
    """)
    assert outside == []


def test_the_folded_findings_open_without_a_script(page: Any) -> None:
    summary = page.find_element(By.TAG_NAME, "summary")
    hidden = page.find_element(By.CSS_SELECTOR, "details table")
    assert not hidden.is_displayed()
    summary.click()
    assert hidden.is_displayed()
