"""Pages made by hand, and a parser that checks what every page must keep to."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

from secondnature.report import texts
from secondnature.report.shown import Page, PromptVotes, ShownAnswer, ShownSample, ShownVote, SystemAnswer

VOID = {"meta", "input", "br"}
ELEMENTS = (
    "html head title style body a header h1 h2 h3 h4 p span b main div section nav ul ol li table caption thead tbody tr "
    "th td small figure figcaption dl dt dd details summary form label select option button code bdi footer script "
    "svg desc line rect circle text polyline meta input br"
)
ATTRIBUTES = (
    "lang charset http-equiv content name class id href role scope colspan hidden type value dir tabindex open for "
    "autocomplete data-list data-on data-key data-tags data-slices x y x1 y1 x2 y2 cx cy r width height viewbox points "
    "text-anchor preserveaspectratio aria-label aria-labelledby aria-hidden"
)


class Parsed(HTMLParser):
    """The elements, attributes and text of a page; fails on what is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            assert self.open[-1] not in self.raw
            self.raw[self.open[-1]] = data
        else:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def text(self) -> str:
        return "".join(self.texts).replace(texts.MINUS, "-")


def check(html: str) -> Parsed:
    """The page is well formed, has only expected elements and attributes, and loads nothing."""
    parsed = Parsed(html)
    assert {tag for tag, _ in parsed.elements} <= {*ELEMENTS.split()}
    assert {name for _, attributes in parsed.elements for name in attributes} <= {*ATTRIBUTES.split()}
    for _, attributes in parsed.elements:
        assert attributes.get("href", "#").startswith("#")
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in parsed.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        assert attributes.get("href", "#")[1:] in {*ids, ""}
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
    html.encode()
    [csp] = [a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert csp.startswith("default-src 'none';")
    for text in parsed.raw.values():
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in csp
    return parsed


def figures(accuracy: float | None, tokens: float, **more: Any) -> dict[str, Any]:
    ci = None if accuracy is None else [accuracy - 0.08, accuracy + 0.08]
    scores = {"n": 134, "accuracy": accuracy, "accuracy_ci": ci, "agreement_with_system2": 0.621}
    slices = {"mix": scores, "wrong": {**scores, "n": 67}}
    rest = {"tokens_per_answer": tokens, "prompt_tokens_per_answer": 44.0, "unparsable": 0.123, "votes": 1}
    return {**scores, **rest, "latency_ms_p50": tokens * 10, "latency_ms_p95": 4321.0, "slices": slices, **more}


def report(labels: bool = True) -> dict[str, Any]:
    def acc(value: float) -> float | None:
        return value if labels else None

    return {
        "verdict": "ship",
        "reason": "Distilled loses less than the margin.",
        "model": "bundled:smollm2-135m",
        "task": "biased_capitals",
        "technique": "s2a",
        "headline": "mix",
        "systems": {
            "system1": figures(acc(0.251), 21.0, description="the prompt, answered at once"),
            "system2": figures(acc(0.432), 168.4, agreement_with_system2=0.714, truncated=0.045),
            "distilled": figures(
                acc(0.426), 6.2, stability={"swap": {"n": 100, "changed": 0.123, "changed_ci": [0.05, 0.2]}}
            ),
            "system2_voted_5": figures(acc(0.45), 842.0, votes=5),
            "system1_voted": figures(acc(0.29), 168.0, votes=8),
            "baseline_ignore_opinions": figures(acc(0.11), 19.3),
            "control_unfiltered": None,
            "baseline_another_one": figures(acc(0.2), 30.0),
        },
        "agreement": {"floor": 0.313, "ceiling": 0.714},
        "differences": [
            {"name": "distilled - system2", "slice": "mix", "difference": -0.006, "ci": [-0.04, 0.05]},
            {"name": "distilled - system1", "slice": None, "difference": 0.175, "ci": [0.09, 0.24]},
            {"name": "distilled - system1_voted", "slice": "mix", "difference": -0.1, "ci": [-0.2, -0.02]},
        ],
        "curation": {
            "prompts": 300, "samples": 1800, "samples_fixed_n": 2400, "tokens_saved_by_early_stopping": 12345,
            "kept": 141, "discarded": {"low agreement": 120, "unparsable": 30, "truncated": 5, "tie": 4}, "calls": 2100,
            "calls_reused": 900, "tokens_prompt": 400000, "tokens_completion": 60000, "seconds": 210.0,
            "label_precision": 0.617 if labels else None, "label_precision_single": 0.404 if labels else None,
        },
        "training": {
            "examples": 141, "steps": 30, "loss_first": 2.1, "loss_last": 0.3, "seconds": 80.0,
            "tokens_per_second": 300.0, "history": [{"step": i, "loss": 2.1 / i} for i in range(1, 31)],
        },
        "caveats": ["Another seed was inconclusive."],
        "next_step": "Try it: `secondnature ask RUN`, and see.",
        "saving": {"than": "System 1", "tokens": 6.2, "tokens_other": 21.0, "ratio": 0.295, "ci": [0.2, 0.41], "decided": True},
        "tests": [
            {"name": "distilled - system2", "question": "Is it within 0.05 of System 2?", "kind": "non-inferiority",
             "margin": 0.05, "n": 134, "groups": 67, "difference": -0.006, "ci": [-0.04, 0.05], "p": 0.0312, "decided": True},
            {"name": "distilled - system2", "question": "Is it better than System 2?", "kind": "superiority", "margin": 0,
             "n": 134, "groups": 67, "difference": -0.006, "ci": [-0.04, 0.05], "p": 0.00004, "decided": False},
        ],
        "power": {"groups": 67, "detectable": 0.12, "sentence": "With 67 groups 0.12 would be found."},
        "seeds": [
            {"seed": 11, "accuracy": acc(0.426), "accuracy_ci": [0.35, 0.51], "agreement_with_system2": 0.62, "verdict": "ship"},
            {"seed": 12, "accuracy": acc(0.381), "accuracy_ci": None, "agreement_with_system2": 0.58, "verdict": "route"},
        ],
        "regression": {
            "source": "built-in general prompts", "n": 60, "same": 0.717, "same_ci": [0.6, 0.82], "kl": 0.0312,
            "kl_ci": [0.02, 0.05], "perplexity_base": 1.21, "perplexity_distilled": 1.34,
            "lengths": {"base": 55.1, "distilled": 12.3},
            "changed": [{"prompt": "Why is the sky blue?", "base": "It scatters.", "distilled": "Blue.", "kl": 0.41}],
            "tasks": [{"task": "arc_local", "metric": "acc", "base": 0.31, "base_stderr": 0.046, "distilled": 0.29,
                       "distilled_stderr": 0.045, "n": 100}],
        },
        "contamination": {
            "n": 134, "flagged": 3, "kinds": {"exact": 0, "near-duplicate": 2, "completed": 1},
            "rows": [
                {"id": "t17", "kind": "near-duplicate", "with": "train-201", "score": 0.914, "text": "Of Peru?", "other": "Peru"},
                {"id": "t18", "kind": "completed", "with": "", "score": 0.8, "text": "Of Chile?", "other": "Chile is"},
            ],
            "without": {"n": 131, "systems": {"distilled": {
                "accuracy": acc(0.41), "accuracy_ci": [0.33, 0.49], "agreement_with_system2": 0.6}}},
        },
        "settings": {"n": 8, "min_agreement": 0.75, "margin": 0.05},
        "versions": {"python": "3.11.7"},
        "hardware": {"cpu": "a CPU", "cores": 2},
        "source": "GeoNames, CC BY 4.0",
    }  # fmt: skip


VOTES = {
    PromptVotes(6, 7, 8, True): 141,
    PromptVotes(2, 5, 8, False, "low agreement"): 120,
    PromptVotes(4, 8, 8, False, "tie"): 39,
}


def vote(text: str, kept: bool = True) -> ShownVote:
    samples = [ShownSample(0, [text, text], text), ShownSample(1, [text], None, "unparsable")]
    return ShownVote(text, text, text, kept, samples)


def answer(text: str, right: bool | None = True, fast_right: bool | None = False) -> ShownAnswer:
    systems = {
        "system1": SystemAnswer(text, (), None, fast_right),
        "system2": SystemAnswer(text, (text,), text, right),
        "distilled": SystemAnswer(text, (), text, right),
        text: SystemAnswer(text, (), text, None),
    }
    return ShownAnswer(text, text, text, ("mix", text), systems)


def full(labels: bool = True) -> Page:
    right = True if labels else None
    tested = [answer("Astana", right, False if labels else None), answer("Canberra", right, right)]
    votes = [vote("Paris"), vote("tie", False)]
    return Page(report(labels), VOTES, votes, tested, 300, 134, "runs/my run", examples=tested, chosen="The first two.")
