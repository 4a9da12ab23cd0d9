"""Where a Chromium is: the system's, or else the one that Playwright installed. Exit status 1: nowhere."""

import shutil
import sys
from pathlib import Path

SYSTEM_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "no Chromium: as root `apt-get install -y chromium`, otherwise `python -m playwright install chromium`"


def find_browser() -> str | None:
    """Path of the browser, or None."""
    from playwright.sync_api import sync_playwright

    system = next(filter(None, map(shutil.which, SYSTEM_BROWSERS)), None)
    if system is not None:
        return system
    with sync_playwright() as engine:
        own = engine.chromium.executable_path
    return own if Path(own).exists() else None


if __name__ == "__main__":
    sys.exit(find_browser() is None)
