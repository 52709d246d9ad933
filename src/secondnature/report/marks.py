"""SVG elements, and the small marks that stand beside a number. Colours come from the page's CSS; text is escaped here."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from secondnature.report.model import Interval
from secondnature.report.texts import visible


def el(name: str, *children: str, **attributes: object) -> Markup:
    """An SVG element; `class_` is class, other underscores are hyphens, and strings that are not Markup are escaped."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    shown = ((key, f"{value:.1f}" if isinstance(value, float) else str(value)) for key, value in given)
    head = Markup("").join(Markup(' {}="{}"').format(key, visible(value)) for key, value in shown)
    body = Markup("").join(c if isinstance(c, Markup) else escape(visible(c)) for c in children)
    return Markup("<{}{}>{}</{}>").format(Markup(name), head, body, Markup(name))


def figure(id: str, title: str, desc: str, width: int, height: int, *body: Markup) -> Markup:
    """A plot with a name and a description for those who do not see it."""
    names = (el("title", title, id=f"{id}-t"), el("desc", desc, id=f"{id}-d"))
    size = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return el("svg", *names, *body, class_="plot", **size, role="img", aria_labelledby=f"{id}-t {id}-d")


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    return el("rect", x=x, y=y, width=max(0.0, width), height=max(0.0, height), class_=class_)


def text(x: float, y: float, text: str, class_: str = "tick", anchor: str = "middle") -> Markup:
    return el("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


def inline(width: int, height: int, *body: Markup, **attributes: str) -> Markup:
    """A mark beside a number that says the same, so hidden from screen readers."""
    size = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return el("svg", *body, **size, aria_hidden="true", **attributes)


def bar(share: float, kind: str, width: int = 180) -> Markup:
    """A horizontal bar, `share` of the width."""
    filled = rect(0, 0, width * min(1.0, max(0.0, share)), 10, f"fill {kind}")
    return inline(width, 10, rect(0, 0, width, 10, "track"), filled, preserveAspectRatio="none")


def strip(
    value: float | None,
    ci: Interval | None,
    kind: str,
    *,
    span: Interval = (0.0, 1.0),
    marks: Sequence[float] = (),
    band: Interval | None = None,
    width: int = 120,
) -> Markup:
    """A dot with its interval on an axis from `span[0]` to `span[1]`, with marks and a band behind it."""

    def x(v: float) -> float:
        return 5 + (width - 10) * min(1.0, max(0.0, (v - span[0]) / (span[1] - span[0])))

    body = [line(5, 8, width - 5, 8, "axis")]
    if band:
        body.append(rect(x(band[0]), 3, x(band[1]) - x(band[0]), 10, "band"))
    body += [line(x(mark), 1, x(mark), 15, "mark") for mark in marks]
    if ci:
        body.append(line(x(ci[0]), 8, x(ci[1]), 8, f"whisker {kind}"))
    if value is not None:
        body.append(el("circle", cx=x(value), cy=8.0, r=4, class_=f"dot {kind}"))
    return inline(width, 16, *body)
