"""`report.html` in a real browser: no text of a model runs in it or widens it, nothing is loaded, filters and print work."""

from pathlib import Path
from typing import Any

import pytest

from browser import HOSTILE, watched
from pages import VOTES, answer, full, report, vote
from secondnature.report.page import render
from secondnature.report.shown import Page


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with what no model should write in every text of a prompt, a sample and an answer."""
    votes = [vote(text) for text in HOSTILE]
    answers = [answer(text[:5000]) for text in HOSTILE]
    file = tmp_path_factory.mktemp("page") / "report.html"
    page = Page(report=report(), votes=VOTES, curated=votes, tested=answers, run="<script>alert(0)</script>")
    file.write_text(render(page), encoding="utf-8")
    return file.as_uri()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_loads_or_widens_the_page(browser: Any, address: str, scheme: str) -> None:
    with watched(browser, color_scheme=scheme) as seen:
        seen.page.goto(address)
        for button in reversed(seen.page.get_by_role("button", name="Open all").all()):  # each takes another name
            button.click()
        for width in (1280, 768, 390):
            seen.page.set_viewport_size({"width": width, "height": 900})
            assert seen.overflow() <= 0, width
        assert (
            seen.page.locator("img, main script, main style, base, iframe, [onmouseover], [onfocus], [onload]").count()
            == 0
        )
        assert seen.page.locator("a[href^='javascript:']").count() == 0
        assert seen.complaints == []
        assert seen.asked == [address]


@pytest.mark.browser
def test_filters_search_and_print(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render(full()), encoding="utf-8")
    with watched(browser) as seen:
        page = seen.page
        page.goto((tmp_path / "report.html").as_uri())
        form = page.get_by_role("form", name="Filter test answers")
        shown = page.locator("#list-tested > li:visible")
        everything = shown.count()
        form.get_by_label("Compare").select_option("gain")
        assert 0 < shown.count() < everything
        form.get_by_label("Compare").select_option("")
        assert shown.count() == everything
        form.get_by_label("Search text").fill("no prompt has these words")
        assert shown.count() == 0
        assert page.pdf().startswith(b"%PDF")
        assert seen.complaints == []
