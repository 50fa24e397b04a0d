"""A real browser for the tests of pages: Chromium, steered by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def find_chromium() -> str | None:
    """The path of a browser: FMSTATS_CHROMIUM, or one of the usual names."""
    return os.environ.get("FMSTATS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launch() -> Iterator[Any]:
    """A headless browser, or a skip that names what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)}, nor FMSTATS_CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page opened from a file, and what went wrong in it.

    Attributes:
        page: Playwright's page.
        faults: console messages of errors and warnings, and exceptions.
        requests: addresses that were asked for.
    """

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: m.type in ("error", "warning") and self._fault(m.text))
        self.page.on("pageerror", lambda error: self._fault(str(error)))
        self._context.on("request", lambda request: self.requests.append(request.url))
        self.address = path.resolve().as_uri()
        self.page.goto(self.address)
        if options.get("java_script_enabled", True):
            self.page.wait_for_selector("html[data-ready]")

    def _fault(self, text: str) -> None:
        self.faults.append(text)

    def close(self) -> None:
        """Close it; assert that nothing went wrong and that nothing but the file was asked for."""
        self.page.wait_for_timeout(50)  # for what scripts do late
        self._context.close()
        asked = {url.split("#")[0] for url in self.requests} - {self.address}
        assert not self.faults, f"{self.faults}"
        assert not asked, f"asked for {asked}"
