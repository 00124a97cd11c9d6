"""A browser that reaches this machine only, and what it complained about."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

_OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost"


@contextmanager
def opened_browser(missing: Callable[[str], NoReturn]) -> Iterator[Browser]:
    """Debian's chromium; nothing is downloaded."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        missing("no chromium (Debian's package chromium)")
    expect.set_options(timeout=180_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", _OFFLINE], timeout=180_000
        )
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page, and all that went wrong on it: errors of scripts, of the console (the policy's too), of requests."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self._context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(180_000)
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def close(self) -> None:
        """Close the page with its cookies."""
        self._context.close()
