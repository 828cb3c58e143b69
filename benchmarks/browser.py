"""Headless Chromium through Debian's chromium and chromedriver, for pictures and for tests of what a person sees."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip


def browser_missing() -> str | None:
    """What is not installed, as a sentence with the remedy; None when the browser can run."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found: install Debian's chromium and chromium-driver" if missing else None


@contextmanager
def open_browser(width: int = 1500, height: int = 900) -> Iterator[Any]:
    """A Chromium with a profile of its own, closed at the end.

    Yields:
        A selenium WebDriver.
    """
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def wait_for_text(driver: Any, *texts: str, seconds: float = 60) -> str:
    """Waits until the page shows every text.

    Returns:
        The page's text.

    Raises:
        TimeoutException: naming what did not appear, and what was there instead.
    """
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    shown = ""

    def all_there(driver: Any) -> bool:
        nonlocal shown
        shown = driver.find_element(By.TAG_NAME, "body").text
        return all(text in shown for text in texts)

    try:
        WebDriverWait(driver, seconds, ignored_exceptions=[StaleElementReferenceException]).until(all_there)
    except TimeoutException as error:
        absent = [text for text in texts if text not in shown]
        raise TimeoutException(
            f"{absent} not on {driver.current_url} after {seconds} s; it shows: {shown[:600]}"
        ) from error
    return shown


def try_a_request(driver: Any, address: str, route: str) -> str:
    """Opens the page of a scoring service and sends a route's example as it is: one click to open, one to send.

    Args:
        driver: as `open_browser` gives it.
        address: of the service, with a slash at its end.
        route: such as `/v1/score`.

    Returns:
        What the page shows of the route when the answer is there.
    """
    from selenium.webdriver.common.by import By

    driver.get(address)
    wait_for_text(driver, route)
    named = f"//span[@data-path='{route}']/ancestor::div[contains(concat(' ', @class, ' '), ' opblock ')]"
    driver.find_element(By.XPATH, f"{named}//button[contains(@class, 'opblock-summary-control')]").click()
    wait_for_text(driver, "Try it out")
    driver.find_element(By.XPATH, f"{named}//button[contains(@class, 'try-out__btn')]").click()
    driver.find_element(By.XPATH, f"{named}//button[contains(@class, 'execute')]").click()
    wait_for_text(driver, "Server response", "Response body")
    return str(driver.find_element(By.XPATH, named).text)
