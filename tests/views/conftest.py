"""What tests of the views share: a browser."""

import os
import shutil

import pytest

CHROMIUM = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
CHROMIUM += " --disable-background-networking --disable-component-update --disable-sync"


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium without a network; skipped where it is not installed, which in CI is a fault."""
    there = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if not all(there.values()) and "CI" not in os.environ:
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = there["chromium"]
    for argument in CHROMIUM.split():
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(there["chromedriver"]))
    yield driver
    driver.quit()
