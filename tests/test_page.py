"""The report page: what it says, what it says when half the run is missing, and that no model's text can break it."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from pages import VOTES, answer, check, full, vote
from reports import empty, figures, report
from reports import full as contents
from secondnature.report import plots, texts
from secondnature.report.model import Report
from secondnature.report.page import render
from secondnature.report.shown import Page, PromptVotes

HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7*7 }}{% for x in y %}",
    "<!-- ]]> --> </style></title></textarea>",
    "nul \x00 bell \x07 escape \x1b surrogate \ud800",
    "right \u202eto left\u202c \u2066isolate",
    "&lt;b&gt; &amp; <b>bold</b>",
]


def test_a_full_page_says_what_the_report_says() -> None:
    parsed = check(render(full()))
    text = parsed.text
    for said in (
        "Ship the distilled model", "Distilled loses less than the margin.", "bundled:smollm2-135m", "s2a",
        "134 test prompts of “mix”", "42.6%", "34.6% to 50.6%", "168.4", "27 times fewer than System 2",
        "-0.6 points against System 2", "31.3%", "71.4%", "4.3 s", "12.3%", "System 1, voted (8 votes)",
        "System 1, ignore opinions", "System 1, another one", "-4.0 to +5.0", "no clear difference, loses less than the margin",
        "141 of 300 training prompts", "75.0% of 2,400", "12,345", "400,000", "3 min 30 s", "61.7%", "40.4%",
        "Of 8 samples, 6 must give the same answer", "261 of 300 prompts were stopped early", "6 votes: 141 kept",
        "Loss 2.1 at step 1, 0.07 at step 30.", "GeoNames, CC BY 4.0", "self-consistent", "2 of 134 test prompts",
        "Distilled right, System 1 wrong (1)", "all prompts", "3.11.7",
        "Next: Try it: secondnature ask 'runs/my run', and see.", "The first two.", "System 2 thought", "4.5% truncated",
        "That is 29.5% of them, 95% interval 20.0% to 41.0%. At least half is saved",
    ):  # fmt: skip
        assert said in text, said
    assert "Control: no filter" not in text
    assert "There are no labels" not in text
    assert text.count("secondnature ") == 1  # nothing is left to run


def test_without_labels_agreement_leads_and_ship_is_explained() -> None:
    text = check(render(full(labels=False))).text
    assert "not that the answers are right" in text
    assert "Agreement with System 2 against tokens per answer" in text
    assert "-9.3 points against the ceiling" in text
    assert "with itself" in text
    assert "match the labels" not in text
    assert "Accuracy against" not in text


def test_an_empty_run_names_the_commands() -> None:
    text = check(render(Page(empty(), run="runs/my run"))).text
    assert "No verdict yet" in text
    for stage in ("sample", "verify", "train", "evaluate"):
        assert f"secondnature {stage} 'runs/my run'" in text


def test_a_sampled_run_shows_its_counts() -> None:
    curation = {**contents()["curation"], "samples": 900}
    text = check(render(Page(empty(curation=curation), VOTES))).text
    assert "37.5% of 2,400" in text
    assert "141 of 300 training prompts" in text
    assert "secondnature train RUN" in text


def test_nothing_kept_is_no_error() -> None:
    given = contents()
    systems = {**{name: given["systems"][name] for name in ("system1", "system2")}, "distilled": None}
    curation = {**given["curation"], "kept": 0, "discarded": {"low agreement": 300}}
    nothing = report(verdict="inconclusive", training=None, differences=[], systems=systems, curation=curation)
    text = check(render(Page(nothing, {PromptVotes(0, 3, 8, False, "unparsable"): 300}))).text
    assert "Inconclusive" in text
    assert "nothing was kept to train on" in text
    assert "Nothing was kept, so nothing was trained." in text
    assert "System 2: +18.1 points against System 1" in text


def each_missing(value: Any) -> Iterator[Any]:
    """Copies of a report's content, each with one part, at any depth, that may be null, missing: null or empty."""
    if isinstance(value, list) and value:
        yield []
        yield from ([copy, *value[1:]] for copy in each_missing(value[0]))
    if isinstance(value, dict):
        for key, item in value.items():
            yield {**value, key: None}
            yield from ({**value, key: copy} for copy in each_missing(item))


def test_what_may_be_missing_may_be_missing() -> None:
    shown = refused = 0
    for copy in each_missing(contents()):
        try:
            missing = Report.model_validate(copy)
        except ValidationError:
            refused += 1
            continue
        shown += 1
        if shown % 4 == 0:
            assert render(Page(missing, VOTES)).endswith("</html>")
    assert shown > 60
    assert refused > 100


@pytest.mark.parametrize("evil", [*HOSTILE, "W" * 20_000, "".join(HOSTILE)])
def test_hostile_text_stays_text(evil: str) -> None:
    given = contents()
    for key in ("reason", "model", "task", "technique", "headline", "source", "next_step"):
        given[key] = evil
    given["systems"][f"baseline_{evil}"] = figures(0.3, 55.0, description=evil)
    given["systems"][f"baseline_{evil}"]["slices"][evil] = given["contamination"]["without"]["systems"]["distilled"]
    given["differences"].append({**given["differences"][0], "second": f"baseline_{evil}", "slice": evil})
    given["curation"]["discarded"][evil] = 9
    given["caveats"] = [{"kind": evil, "text": evil}]
    given["power"]["sentence"] = given["regression"]["general"]["source"] = evil
    stability = given["systems"]["distilled"]["stability"]
    stability[evil] = stability["swap"]
    for test in given["tests"]:
        test["question"] = evil
    for row in given["contamination"]["rows"]:
        row |= dict.fromkeys(("id", "train_id", "text", "train_text"), evil)
    for row in given["regression"]["general"]["changed"]:
        row |= dict.fromkeys(("prompt", "base", "distilled"), evil)
    for row in given["regression"]["tasks"]:
        row |= dict.fromkeys(("task", "metric"), evil)
    for part in ("versions", "hardware"):
        given[part][evil] = evil
    page = Page(
        report(**given), {PromptVotes(1, 1, 8, False, evil): 1}, [vote(evil), vote(evil, False)], [answer(evil)], run=evil,
        examples=[answer(evil)], chosen=evil,
    )  # fmt: skip
    parsed = check(render(page))
    plain = check(render(Page(report(), {}, [vote("a"), vote("b", False)], [answer("c")])))
    assert parsed.raw == plain.raw  # no data in the script or the style
    assert parsed.texts.count(texts.visible(evil)) > 30  # whole, as one text each


def test_every_text_is_shown_whole_and_can_be_filtered() -> None:
    parsed = check(render(Page(empty(), curated=[vote("a " * 10_000), vote("tie", False)], tested=[answer("x")])))
    assert "a " * 10_000 in parsed.texts
    keys = [attributes["data-key"] for _, attributes in parsed.elements if "data-key" in attributes]
    options = [attributes["value"] for tag, attributes in parsed.elements if tag == "option"]
    assert set(keys) <= set(options)
    assert [a["data-tags"].split() for _, a in parsed.elements if "data-tags" in a] == [["gain", "thought", "unread"]]


def test_a_large_run_is_quick() -> None:
    votes = {PromptVotes(i, 8, 8, i > 5, "low agreement"): 1000 for i in range(9)}
    began = time.process_time()
    html = render(Page(report(), votes, [vote("Paris " * 20)] * 300, [answer("Lyon " * 20)] * 300))
    assert time.process_time() - began < 5
    assert len(html) < 3_000_000


def test_labels_of_the_scatter_do_not_overlap() -> None:
    points = [plots.Point(f"System {i}, of some length", "other", 5.0 + i, 0.4 + i / 50, None) for i in range(6)]
    drawn = plots.scatter("s", points, "Accuracy", 700)
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="label other" text-anchor="(\w+)">([^<]+)<', drawn)
    boxes: list[plots.Box] = []
    for x, y, anchor, said in places:
        left = float(x) - (len(said) * 6.5 if anchor == "end" else 0)
        boxes.append(plots.Box(left, float(y) - 10, left + len(said) * 6.5, float(y) + 2))
    assert len(boxes) == 6
    assert not any(a.overlap(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, texts.NONE),
        (0, "0 ms"),
        (999.4, "999 ms"),
        (2410, "2.4 s"),
        (90_000, "1 min 30 s"),
        (7_500_000, "2 h 5 min"),
    ],
)
def test_durations_read_well(number: float | None, text: str) -> None:
    assert texts.duration(number) == text


def test_a_loss_is_drawn_as_it_was_and_as_the_mean_of_those_around_it() -> None:
    zigzag = [(float(i), 1.0 + i % 2) for i in range(100)]
    smooth = [loss for _, loss in plots.smoothed(zigzag)]
    assert max(smooth[10:-10]) - min(smooth[10:-10]) < 0.2
    assert len(smooth) == 100
    assert plots.loss_curve("l", zigzag, 700).count("<polyline") == 2


def test_a_distilled_model_that_is_slower_with_fewer_tokens_is_explained() -> None:
    given = contents()
    assert "slower a token" not in check(render(Page(report(**given)))).text
    given["systems"]["distilled"]["latency_ms_p50"] = 300.0
    text = check(render(Page(report(**given)))).text
    assert "1.4 times slower than System 1" in text
    assert "slower a token, since the adapter runs beside the weights" in text


def test_a_long_text_is_shortened_to_its_beginning_and_its_end() -> None:
    assert texts.shorten("a\n b", 10) == "a b"
    assert texts.shorten("begin " + "x" * 500 + " the end", 60).startswith("begin xxx")
    assert texts.shorten("begin " + "x" * 500 + " the end", 60).endswith(" the end")
