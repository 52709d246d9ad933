"""The page's plots as inline SVG, each with a name and a description for those who do not see it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from secondnature.report.marks import el, figure, line, rect, text
from secondnature.report.model import Interval
from secondnature.report.texts import percent

MAX_LOSS_POINTS = 400
KINDS = ("system1", "system2", "distilled")  # whose labels are bold
_CHAR = 6.9  # a generous width of one character at 12 px: system fonts differ


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


def scatter(id: str, points: Sequence[Point], measure: str, width: int) -> Markup:
    """`measure` (a share) over tokens per answer, each system named at its dot. `points` has at least one."""
    height = 340 if width > 500 else 420
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
        body += [line(left, y, right, y, "grid"), text(left - 6, y + 4, f"{share:.0%}", anchor="end")]
    last = -math.inf
    for tick in ticks:
        x = place(tick, low)[0]
        body.append(line(x, bottom, x, bottom + 4, "axis"))
        if x - last > 34:
            body.append(text(x, bottom + 17, f"{tick:g}"))
            last = x
    body.append(text((left + right) / 2, height - 6, "tokens per answer" + (", log scale" if log else ""), "tick"))
    at = [(p, *place(p.x, p.y)) for p in points]
    taken = [Box(x - 7, y - 7, x + 7, y + 7) for _, x, y in at]
    for point, x, _ in at:
        if point.ci:
            y_low, y_high = place(point.x, point.ci[0])[1], place(point.x, point.ci[1])[1]
            body.append(line(x, y_low, x, y_high, f"whisker {point.kind}"))
            taken.append(Box(x - 3, y_high, x + 3, y_low))
    best = frontier(at)
    if len(best) > 1:
        body.append(el("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for _, x, y in best), class_="frontier"))
    dots: list[Markup] = []
    for point, x, y in at:
        label = point.name if len(point.name) <= 32 else point.name[:31] + "\N{HORIZONTAL ELLIPSIS}"
        wide = len(label) * (_CHAR * 1.12 if point.kind in KINDS else _CHAR)
        box = _label_box(x, y, wide, taken, Box(left, top - 8, right + 12, bottom - 2))
        taken.append(box)
        nearest = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
        if math.dist(nearest, (x, y)) > 16:
            body.append(line(x, y, *nearest, "leader"))
        start, anchor = (box.right - 1, "end") if box.right < x else (box.left + 1, "start")
        body.append(text(start, box.bottom - 4, label, f"label {point.kind}", anchor))
        dots.append(el("circle", cx=x, cy=y, r=5, class_=f"dot {point.kind}"))
    body += dots
    said = "; ".join(f"{p.name}: {p.y:.1%} at {p.x:.1f} tokens" for p in points)
    return figure(id, f"{measure} against tokens per answer", said, width, height, *body)


Placed = tuple[Point, float, float]


def frontier(at: Sequence[Placed]) -> list[Placed]:
    """The systems that no cheaper one equals, cheapest first."""
    best: list[Placed] = []
    for placed in sorted(at, key=lambda placed: (placed[0].x, -placed[0].y)):
        if not best or placed[0].y > best[-1][0].y:
            best.append(placed)
    return best


def _label_box(x: float, y: float, width: float, taken: Sequence[Box], frame: Box) -> Box:
    """The nearest free place for a label of a point at (x, y); else the least crowded one."""
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

    return min(places, key=cost)[0]


def nice_step(top: float, steps: int) -> float:
    """A round step that divides 0 to `top` into about `steps`."""
    raw = max(top, 1e-9) / steps
    size = 10.0 ** math.floor(math.log10(raw))
    return next(m * size for m in (1, 2, 5, 10) if m * size >= raw * 0.999)


Bin = tuple[int, int]


def histogram(id: str, bins: Sequence[Bin], needed: int | None, width: int, height: int = 230) -> Markup:
    """How many prompts had 0, 1, … votes for their leading answer: `bins` holds (kept, discarded) for each."""
    tallest = max(1, max(kept + discarded for kept, discarded in bins))
    left, right, top, bottom = 46.0, width - 8.0, 34.0, height - 42.0
    step, slot = max(1.0, nice_step(tallest, 4)), (right - left) / len(bins)
    scale = (bottom - top) / tallest
    body: list[Markup] = []
    for i in range(int(tallest / step) + 1):
        y = bottom - scale * step * i
        body += [line(left, y, right, y, "grid"), text(left - 6, y + 4, f"{step * i:,.0f}", anchor="end")]
    skip = math.ceil(len(bins) * 22 / (right - left))
    for votes, (kept, discarded) in enumerate(bins):
        x, wide = left + slot * votes, min(slot * 0.76, 54.0)
        inset = x + (slot - wide) / 2
        body.append(rect(inset, bottom - scale * kept, wide, scale * kept, "fill kept"))
        body.append(rect(inset, bottom - scale * (kept + discarded), wide, scale * discarded, "fill gone"))
        if votes % skip == 0:
            body.append(text(x + slot / 2, bottom + 17, str(votes)))
    if needed is not None and needed < len(bins):
        x = left + slot * needed
        before = x > (left + right) / 2
        said = f"{needed} needed"
        body.append(line(x, top - 18, x, bottom, "threshold"))
        body.append(text(x - 6 if before else x + 6, top - 9, said, "label", "end" if before else "start"))
    body.append(text((left + right) / 2, height - 5, "votes of the leading answer"))
    said = "; ".join(
        f"{i} votes: {kept} kept, {discarded} discarded" for i, (kept, discarded) in enumerate(bins) if kept + discarded
    )
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
        body += [line(left, y, right, y, "grid"), text(left - 6, y + 4, f"{share:.0%}", anchor="end")]
    skip = math.ceil(len(lines) * 22 / (right - left))
    body += [text(place(votes, 0)[0], bottom + 17, str(votes)) for votes, _, _ in lines if (votes - 1) % skip == 0]
    if needed is not None and 1 <= needed <= most:
        x = place(needed, 0)[0]
        body.append(line(x, top - 18, x, bottom, "threshold"))
    curves = [("kept", "system2", [(v, k / prompts) for v, k, _ in lines])]
    curves.append(("right", "distilled", [(v, p) for v, _, p in lines if p is not None]))
    for name, kind, shares in curves:
        if shares:
            joined = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in shares)
            body.append(el("polyline", points=joined, class_=f"curve {kind}"))
            x, y = place(*shares[-1])
            body.append(text(x, y - 8, name, f"label {kind}", "end"))
    body.append(text((left + right) / 2, height - 5, "votes needed of the leading answer"))
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


def smoothed(history: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each loss as the mean of those around it, a tenth of all and three at least, fewer at the ends."""
    reach = max(1, len(history) // 20)

    def mean(i: int) -> float:
        near = history[max(0, i - reach) : i + reach + 1]
        return sum(loss for _, loss in near) / len(near)

    return [(at, mean(i)) for i, (at, _) in enumerate(history)]


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
        body += [line(left, y, right, y, "grid"), text(left - 6, y + 4, f"{step * i:.3g}", anchor="end")]
    for i in range(math.ceil(first / stride), int(final / stride) + 1):
        body.append(text(place(stride * i, 0)[0], bottom + 17, f"{stride * i:,.0f}"))
    body.append(text((left + right) / 2, height - 5, "training step"))
    for class_, line_of in (("loss raw", history), ("loss", smoothed(history))):
        drawn = " ".join("{:.1f},{:.1f}".format(*place(*p)) for p in line_of)
        body.append(el("polyline", points=drawn, class_=class_))
    said = f"Loss {history[0][1]:.3g} at step {first:.0f}, {history[-1][1]:.3g} at step {final:.0f}."
    return figure(id, "Training loss", said, width, height, *body)
