"""The page's plots as inline SVG, and its numbers as text. Colours come from the page's CSS; text is escaped here."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

MAX_LOSS_POINTS = 400
_CHAR = 6.9  # a generous width of one character at 12 px: system fonts differ
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """One system in the scatter: `x` is tokens per answer, `y` a share with its interval."""

    name: str
    kind: str
    x: float
    y: float
    ci: Interval | None


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle that a label must not cover."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def visible(text: str) -> str:
    """`text` with what a browser would swallow or obey (control characters, bidi overrides) written out."""
    return _UNSAFE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}%"


def count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}" if value % 1 and abs(value) < 1000 else f"{value:,.0f}"


def points(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def duration(ms: float | None) -> str:
    if ms is None:
        return NONE
    if ms < 60_000:
        return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def compared(value: float | None, other: float | None, than: str, more: str, less: str) -> str | None:
    """`value` as a multiple of `other`, in words."""
    if not value or not other:
        return None
    if 0.95 < value / other < 1.05:
        return f"about the same as {than}"
    return f"{times(value / other)} {more} {than}" if value > other else f"{times(other / value)} {less} {than}"


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


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _rect(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    return el("rect", x=x, y=y, width=max(0.0, width), height=max(0.0, height), class_=class_)


def _text(x: float, y: float, text: str, class_: str = "tick", anchor: str = "middle") -> Markup:
    return el("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


def _inline(width: int, height: int, *body: Markup, **attributes: str) -> Markup:
    """A mark beside a number that says the same, so hidden from screen readers."""
    size = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height}
    return el("svg", *body, **size, aria_hidden="true", **attributes)


def bar(share: float, kind: str, width: int = 180) -> Markup:
    """A horizontal bar, `share` of the width."""
    filled = _rect(0, 0, width * min(1.0, max(0.0, share)), 10, f"fill {kind}")
    return _inline(width, 10, _rect(0, 0, width, 10, "track"), filled, preserveAspectRatio="none")


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

    body = [_line(5, 8, width - 5, 8, "axis")]
    if band:
        body.append(_rect(x(band[0]), 3, x(band[1]) - x(band[0]), 10, "band"))
    body += [_line(x(mark), 1, x(mark), 15, "mark") for mark in marks]
    if ci:
        body.append(_line(x(ci[0]), 8, x(ci[1]), 8, f"whisker {kind}"))
    if value is not None:
        body.append(el("circle", cx=x(value), cy=8.0, r=4, class_=f"dot {kind}"))
    return _inline(width, 16, *body)


def scatter(id: str, points: Sequence[Point], measure: str, width: int, height: int = 340) -> Markup:
    """`measure` (a share) over tokens per answer, each system named at its dot. `points` has at least one."""
    xs = [p.x for p in points]
    log = min(xs) > 0 and max(xs) / min(xs) > 5
    ends = [v for p in points for v in (p.ci or (p.y, p.y))]
    step = 0.2 if max(ends) - min(ends) > 0.6 else 0.1
    low, high = step * math.floor(min(ends) / step - 0.1), step * math.ceil(max(ends) / step + 0.1)
    low, high = max(0.0, low), min(1.0, high)
    left, right, top, bottom = 46.0, width - 14.0, 14.0, height - 44.0
    if log:
        x0, x1 = math.log10(min(xs)) - 0.12, math.log10(max(xs)) + 0.12
        decades = range(math.floor(x0), math.ceil(x1) + 1)
        ticks = [m * 10.0**d for d in decades for m in (1, 2, 5) if x0 <= math.log10(m * 10.0**d) <= x1]
    else:
        x0, x1 = 0.0, max(max(xs) * 1.15, 1.0)
        stride = nice_step(x1, 5)
        ticks = [stride * i for i in range(int(x1 / stride) + 1)]

    def place(px: float, py: float) -> tuple[float, float]:
        along = ((math.log10(px) if log else px) - x0) / (x1 - x0)
        return left + (right - left) * along, bottom - (bottom - top) * (py - low) / (high - low)

    body: list[Markup] = []
    for i in range(round((high - low) / step) + 1):
        share = min(high, low + step * i)
        y = place(points[0].x, share)[1]
        body += [_line(left, y, right, y, "grid"), _text(left - 6, y + 4, f"{share:.0%}", anchor="end")]
    last = -math.inf
    for tick in ticks:
        x = place(tick, low)[0]
        body.append(_line(x, bottom, x, bottom + 4, "axis"))
        if x - last > 34:
            body.append(_text(x, bottom + 17, f"{tick:g}"))
            last = x
    body.append(_text((left + right) / 2, height - 6, "tokens per answer" + (", log scale" if log else ""), "tick"))
    at = [(p, *place(p.x, p.y)) for p in points]
    taken = [Box(x - 7, y - 7, x + 7, y + 7) for _, x, y in at]
    for point, x, _ in at:
        if point.ci:
            y_low, y_high = place(point.x, point.ci[0])[1], place(point.x, point.ci[1])[1]
            body.append(_line(x, y_low, x, y_high, f"whisker {point.kind}"))
            taken.append(Box(x - 3, y_high, x + 3, y_low))
    dots: list[Markup] = []
    for point, x, y in at:
        label = point.name if len(point.name) <= 32 else point.name[:31] + "\N{HORIZONTAL ELLIPSIS}"
        wide = len(label) * (_CHAR if point.kind == "other" else _CHAR * 1.12)
        box, reach = _label_box(x, y, wide, taken, Box(left, top - 8, right + 12, bottom - 2))
        taken.append(box)
        if reach > 18:
            nearest = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
            body.append(_line(x, y, *nearest, "leader"))
        start, anchor = (box.right - 1, "end") if box.right < x else (box.left + 1, "start")
        body.append(_text(start, box.bottom - 4, label, f"label {point.kind}", anchor))
        dots.append(el("circle", cx=x, cy=y, r=5, class_=f"dot {point.kind}"))
    body += dots
    said = "; ".join(f"{p.name}: {p.y:.1%} at {p.x:.1f} tokens" for p in points)
    return figure(id, f"{measure} against tokens per answer", said, width, height, *body)


def _label_box(x: float, y: float, width: float, taken: Sequence[Box], frame: Box) -> tuple[Box, float]:
    """The nearest free place for a label of a point at (x, y), and how far off it is; else the least crowded one."""
    shifts = sorted(range(-90, 91, 9), key=abs)
    sides = [(x + 9, 0), (x - 9 - width, 0), (x - width / 2, 17), (x + 30, 0), (x - 30 - width, 0), (x + 70, 0)]
    places = [(Box(left, y + up - 9, left + width, y + up + 8), abs(up)) for left, least in sides for up in shifts
              if abs(up) >= least]  # fmt: skip

    def cost(place: tuple[Box, int]) -> float:
        box, far = place
        outside = max(0, frame.left - box.left) + max(0, box.right - frame.right)
        outside += max(0, frame.top - box.top) + max(0, box.bottom - frame.bottom)
        covered = sum(box.overlap(other) for other in taken)
        return 1000 * outside + 10 * covered + far + 0.5 * abs((box.left + box.right) / 2 - x - width / 2)

    return min(places, key=cost)


def nice_step(top: float, steps: int) -> float:
    """A round step that divides 0 to `top` into about `steps`."""
    raw = max(top, 1e-9) / steps
    size = 10.0 ** math.floor(math.log10(raw))
    return next(m * size for m in (1, 2, 5, 10) if m * size >= raw * 0.999)


Bin = tuple[int, int]


def histogram(id: str, bins: Sequence[Bin], needed: int | None, width: int, height: int = 230) -> Markup:
    """How many prompts had 0, 1, … votes for their leading answer: `bins` holds (kept, discarded) for each."""
    tallest = max(1, max(kept + gone for kept, gone in bins))
    left, right, top, bottom = 46.0, width - 8.0, 34.0, height - 42.0
    step, slot = max(1.0, nice_step(tallest, 4)), (right - left) / len(bins)
    scale = (bottom - top) / tallest
    body: list[Markup] = []
    for i in range(int(tallest / step) + 1):
        y = bottom - scale * step * i
        body += [_line(left, y, right, y, "grid"), _text(left - 6, y + 4, f"{step * i:,.0f}", anchor="end")]
    skip = math.ceil(len(bins) * 22 / (right - left))
    for votes, (kept, gone) in enumerate(bins):
        x, wide = left + slot * votes, min(slot * 0.76, 54.0)
        inset = x + (slot - wide) / 2
        body.append(_rect(inset, bottom - scale * kept, wide, scale * kept, "fill kept"))
        body.append(_rect(inset, bottom - scale * (kept + gone), wide, scale * gone, "fill gone"))
        if votes % skip == 0:
            body.append(_text(x + slot / 2, bottom + 17, str(votes)))
    if needed is not None and needed < len(bins):
        x = left + slot * needed
        before = x > (left + right) / 2
        said = f"{needed} needed"
        body.append(_line(x, top - 18, x, bottom, "threshold"))
        body.append(_text(x - 6 if before else x + 6, top - 9, said, "label", "end" if before else "start"))
    body.append(_text((left + right) / 2, height - 5, "votes of the leading answer"))
    said = "; ".join(f"{i} votes: {kept} kept, {gone} discarded" for i, (kept, gone) in enumerate(bins) if kept + gone)
    return figure(id, "Prompts by the votes of their leading answer", said, width, height, *body)


Threshold = tuple[int, int, float | None]  # votes needed, prompts kept, the share of their labels that is right


def threshold_curve(
    id: str, lines: Sequence[Threshold], prompts: float, needed: int | None, width: int, height: int = 230
) -> Markup:
    """The share of `prompts` that each threshold would keep, and the share of kept labels that is right."""
    left, right, top, bottom = 46.0, width - 14.0, 34.0, height - 42.0
    most = max(votes for votes, _, _ in lines)

    def place(votes: float, share: float) -> tuple[float, float]:
        return left + (right - left) * (votes - 1) / max(1, most - 1), bottom - (bottom - top) * share

    body: list[Markup] = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = place(1, share)[1]
        body += [_line(left, y, right, y, "grid"), _text(left - 6, y + 4, f"{share:.0%}", anchor="end")]
    skip = math.ceil(len(lines) * 22 / (right - left))
    body += [_text(place(votes, 0)[0], bottom + 17, str(votes)) for votes, _, _ in lines if (votes - 1) % skip == 0]
    if needed is not None and 1 <= needed <= most:
        x = place(needed, 0)[0]
        body.append(_line(x, top - 18, x, bottom, "threshold"))
    curves = [("kept", "system2", [(v, k / prompts) for v, k, _ in lines])]
    curves.append(("right", "distilled", [(v, p) for v, _, p in lines if p is not None]))
    for name, kind, shares in curves:
        if shares:
            joined = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in shares)
            body.append(el("polyline", points=joined, class_=f"curve {kind}"))
            x, y = place(*shares[-1])
            body.append(_text(x, y - 8, name, f"label {kind}", "end"))
    body.append(_text((left + right) / 2, height - 5, "votes needed of the leading answer"))
    said = "; ".join(
        f"{v} votes: {k} kept" + (f", {percent(p)} of them right" if p is not None else "") for v, k, p in lines
    )
    return figure(id, "What each threshold would keep", said, width, height, *body)


Trend = tuple[int, list[tuple[float, float]]]


def thin(history: Sequence[tuple[float, float]]) -> Trend:
    """(k, history averaged over k steps each) with few enough points to draw."""
    k = math.ceil(len(history) / MAX_LOSS_POINTS)
    groups = [history[i : i + k] for i in range(0, len(history), max(1, k))]
    return k, [(g[-1][0], sum(loss for _, loss in g) / len(g)) for g in groups]


def loss_curve(id: str, history: Sequence[tuple[float, float]], width: int, height: int = 230) -> Markup:
    """Training loss by step. `history` has at least two points."""
    left, right, top, bottom = 46.0, width - 14.0, 12.0, height - 42.0
    first, final = history[0][0], history[-1][0]
    tallest = max(loss for _, loss in history) or 1.0
    step, stride = nice_step(tallest, 4), max(1.0, nice_step(final - first, 5))
    top_value = step * math.ceil(tallest / step - 1e-9)
    body: list[Markup] = []

    def place(at: float, loss: float) -> tuple[float, float]:
        across = (right - left) * (at - first) / ((final - first) or 1)
        return left + across, bottom - (bottom - top) * loss / top_value

    for i in range(round(top_value / step) + 1):
        y = place(first, step * i)[1]
        body += [_line(left, y, right, y, "grid"), _text(left - 6, y + 4, f"{step * i:.3g}", anchor="end")]
    for i in range(math.ceil(first / stride), int(final / stride) + 1):
        body.append(_text(place(stride * i, 0)[0], bottom + 17, f"{stride * i:,.0f}"))
    body.append(_text((left + right) / 2, height - 5, "training step"))
    body.append(el("polyline", points=" ".join("{:.1f},{:.1f}".format(*place(*p)) for p in history), class_="loss"))
    said = f"Loss {history[0][1]:.3g} at step {first:.0f}, {history[-1][1]:.3g} at step {final:.0f}."
    return figure(id, "Training loss", said, width, height, *body)
