"""A real Chromium for the tests that need one, and what went wrong in it."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "SECONDNATURE_REQUIRE_CHROMIUM"  # set where its absence is a failure, as in CI
# What no model should write, and some do.
HOSTILE = (
    "<script>alert(1)</script></script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)><svg onload=alert(4)>',
    "' onmouseover='alert(5)' autofocus onfocus='alert(6)",
    '<a href="javascript:alert(7)">javascript:alert(8)</a>',
    "<style>body{display:none}</style><!-- <base href=//example.com> </title></textarea>",
    "{{ 7*7 }}{% raw %}",
    "nul \x00 escape \x1b[31mred\x1b[0m bell \x07",
    "right \u202eto left\u202c \u2066isolate",
    "W" * 1_000_000,
)


@contextmanager
def chromium() -> Generator[Any]:
    """A running Chromium. Skips the test where there is none, unless the environment says that there must be."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set and there is no Chromium here")
        pytest.skip("there is no Chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and all that it complained of, asked for or popped up."""

    page: Any
    complaints: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def watched(browser: Any, **options: Any) -> Generator[Watched]:
    """A new page; `options` are those of the browser's context, such as its viewport and colour scheme."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(15_000)
    found = Watched(page)

    def dialog(shown: Any) -> None:
        found.complaints.append(f"dialog: {shown.message}")
        shown.dismiss()

    page.on("dialog", dialog)
    page.on(
        "console", lambda m: found.complaints.append(f"console: {m.text}") if m.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: found.complaints.append(f"error: {error}"))
    page.on("request", lambda request: found.asked.append(request.url))
    yield found
    context.close()
