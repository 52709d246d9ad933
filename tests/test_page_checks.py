"""The page on the checks behind a verdict: tests, votes, seeds, stability, other abilities, contamination; and its colours."""

import re
from pathlib import Path

import pytest

from pages import check, full
from reports import empty, report
from reports import full as contents
from secondnature.report import page as page_module
from secondnature.report.fields import kind_of, system_name
from secondnature.report.page import render
from secondnature.report.plots import Point, frontier
from secondnature.report.shown import Page
from secondnature.report.texts import NONE, p_value

STYLE = Path(page_module.__file__).with_name("page.css").read_text(encoding="utf-8")


def test_the_verdict_comes_first_with_its_caveats_and_its_tests() -> None:
    text = check(render(full())).text
    order = [
        "Ship the distilled model", "Distilled loses less than the margin.", "Another seed was inconclusive.",
        "Tokens per answer", "How the verdict was reached", "Is it within 0.05 of System 2?", "Intervals are 95%; the lines",
    ]  # fmt: skip
    places = [text.index(said, text.index("Skip to the verdict")) for said in order]
    assert places == sorted(places)
    row = text[text.index("Is it within 0.05") : text.index("Is it better than System 2?")]
    assert [said in row for said in ("yes", "-0.6", "-4.0 to +5.0", "0.031", "67 groups")] == [True] * 5
    row = text[text.index("Is it better than System 2?") :]
    assert "not shown" in row[:60]
    assert "< 0.001" in row[:150]
    assert "With 67 groups 0.12 would be found." in text


def test_the_checks_are_shown_with_their_meaning() -> None:
    text = check(render(full())).text
    for said in (
        "System 2 (5 votes)", "accuracy ran from 38.1% to 42.6%: 4.5 points apart", "ship 1 of 2, route 1 of 2",
        "The mark is System 2, 43.2%", "position bias", "12.3%", "5.0% to 20.0%",
        "60 of them (built-in general prompts)", "71.7%", "word for word", "0.0312", "0.02 to 0.05", "base 1.21",
        "base 55.1", "± 0.046", "-0.020", "Why is the sky blue?", "0.41 nats a token", "It scatters.", "Blue.",
        "2 of 134 test prompts are also in training.", "nearly all its words", "train-201", "0.914", "of 20 prompts",
        "(131 left)", "-1.6",
    ):  # fmt: skip
        assert said in text, said


def test_what_is_not_there_is_not_mentioned() -> None:
    given = contents()
    for key in ("power", "seeds", "regression", "contamination"):
        given[key] = None
    given["caveats"], given["tests"] = [], []
    given["systems"]["distilled"]["stability"] = None
    ids = {attributes.get("id") for _, attributes in check(render(Page(report(**given)))).elements}
    assert not ids & {"decisions", "seeds", "stability", "regression", "contamination"}
    assert ids >= {"systems", "slices", "curation"}


def test_speed_and_cost_have_a_column_only_where_they_are_given() -> None:
    given = contents()
    text = check(render(Page(report(**given)))).text
    assert "per second" not in text[text.index("All systems") : text.index("What was kept")]
    assert "1,000 answers" not in text
    given["systems"]["distilled"] |= {"cost_per_1000": 0.0134, "answers_per_second": 31.24, "tokens_per_second": 812.0}
    text = check(render(Page(report(**given)))).text
    assert "0.013" in text
    assert "31.2" in text
    assert "812 tokens" in text


def test_without_labels_seeds_and_contamination_speak_of_agreement() -> None:
    text = check(render(full(labels=False))).text
    assert "It answers as System 2 does, without the thinking." in text
    assert "agreement with System 2 ran from 58.0% to 62.0%" in text
    assert "The mark is the ceiling, 71.4%" in text
    assert "60.0%" in text[text.index("(131 left)") :]


def test_an_unfinished_run_has_no_verdict_and_says_how_to_finish_it() -> None:
    text = check(render(Page(empty(reason="The votes are not counted yet."), run="runs/my run"))).text
    assert "No verdict yet" in text
    assert "Inconclusive" not in text
    assert "The votes are not counted yet." in text
    assert "secondnature distill 'runs/my run/recipe.yaml' --out 'runs/my run'" in text


def test_one_seed_is_no_spread() -> None:
    given = contents()
    given["seeds"] = given["seeds"][:1]
    assert "Training seeds" not in check(render(Page(report(**given)))).text


def test_many_flagged_prompts_are_cut_and_counted() -> None:
    given = contents()
    given["contamination"]["rows"] *= 400
    html = render(Page(report(**given)))
    assert "The first 50 of 800" in check(html).text
    assert html.count("Of Peru?") <= 2 * 50


def test_voted_systems_have_their_systems_name_and_colour() -> None:
    assert system_name("system2_voted_5") == "System 2 (5 votes)"
    assert system_name("system2_voted_1") == "System 2 (1 sample)"
    assert system_name("distilled_voted_5", {"votes": 5}) == "Distilled (5 votes)"
    assert system_name("system1_voted", {"votes": 3}) == "System 1, voted (3 votes)"
    assert [kind_of(n) for n in ("distilled_voted_5", "distilled", "system1_voted")] == [
        "distilled voted", "distilled", "other"
    ]  # fmt: skip


def test_the_frontier_holds_the_systems_that_no_cheaper_one_equals() -> None:
    placed = [
        (Point(n, "other", x, y, None), x, y)
        for n, x, y in (("a", 9, 0.5), ("b", 3, 0.4), ("c", 20, 0.5), ("d", 3, 0.3))
    ]
    assert [point.name for point, _, _ in frontier(placed)] == ["b", "a"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NONE), (0.0, "< 0.001"), (0.00123, "0.001"), (0.0312, "0.031"), (0.113, "0.11"), (1.0, "1.00")],
)
def test_p_values_read_well(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_every_table_has_a_caption_and_headers_with_a_scope() -> None:
    elements = check(render(full())).elements
    names = [attributes.get("aria-labelledby") for tag, attributes in elements if tag == "table"]
    captions = sum(tag == "caption" for tag, _ in elements)
    assert len(names) == captions + sum(name is not None for name in names)
    assert all(attributes.get("scope") in ("col", "row", "rowgroup") for tag, attributes in elements if tag == "th")


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(theme: int) -> None:
    blocks = re.findall(r":root \{([^}]*--bg[^}]*--band[^}]*)\}", STYLE)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[theme]))
    for text in ("ink", "soft", "link", "s1", "s2", "d", "other", "bad"):
        for behind in ("bg", "raised"):
            assert contrast(colours[text], colours[behind]) >= 4.5, (text, behind)
    for shape in ("gone", "s1", "s2", "d", "other", "soft"):
        assert contrast(colours[shape], colours["bg"]) >= 3, shape
