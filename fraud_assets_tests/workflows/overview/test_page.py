"""`fraud page` over a platform: every link leads somewhere, it can be written again, and it fits a phone."""

import base64
import re
from datetime import UTC, datetime

import pytest

from benchmarks.browser import open_browser
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.workflows.overview.page import write_site
from fraud_assets_tests.browser import require_browser

pytest_plugins = ["fraud_assets_tests.worlds"]
NOW = datetime(2025, 5, 2, tzinfo=UTC)


def write(settings, folder):
    store = open_store(settings)
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    return write_site(settings, store, ledger, Registry(settings), folder, NOW)


@pytest.fixture(scope="module")
def site(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    return folder, write(world.settings, folder)


def test_every_link_leads_to_a_page_of_the_folder(site, world):
    folder, found = site
    index = (folder / "index.html").read_text()
    links = re.findall(r'href="([^"#][^"]*)"', index)
    pages = [link for link in links if not link.startswith("data:")]
    assert pages
    assert [link for link in pages if not (folder / link).is_file()] == []
    assert found["reports"] == len(world.months)
    assert {f"reports/{month}.html" for month in world.months} <= set(pages)
    assert "is live since" in index


def test_it_is_written_again_and_a_folder_of_others_is_refused(site, world, tmp_path):
    folder, _ = site
    before = (folder / "index.html").read_text()
    write(world.settings, folder)
    assert (folder / "index.html").read_text() == before
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="has something else in it"):
        write(world.settings, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(ValueError, match="is a file"):
        write(world.settings, tmp_path / "letter.txt")


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen_and_the_browser_complains_of_nothing(site, width):
    require_browser()
    folder, _ = site
    with open_browser() as driver:
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get((folder / "index.html").as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.get_log("browser") == []
        printed = driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
