"""Pages made by hand, and a parser that checks what every page must keep to."""

import base64
import hashlib
import re
from html.parser import HTMLParser

from reports import report
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
        f"baseline_{text}": SystemAnswer(text, (), text, None),
    }
    return ShownAnswer(text, text, text, ("mix", text), systems)


def full(labels: bool = True) -> Page:
    right = True if labels else None
    tested = [answer("Astana", right, False if labels else None), answer("Canberra", right, right)]
    votes = [vote("Paris"), vote("tie", False)]
    return Page(report(labels), VOTES, votes, tested, 300, 134, "runs/my run", examples=tested, chosen="The first two.")
