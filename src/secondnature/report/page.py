"""A run as one self-contained HTML page. Everything a model wrote is untrusted text: nothing here marks it as safe."""

import base64
import hashlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from secondnature.report import plots
from secondnature.report.plots import count, duration, percent, points
from secondnature.verify.vote import votes_needed

Json = Mapping[str, Any]
WIDE, NARROW = 700, 326  # two drawings of each plot, for desks and for phones; CSS shows one


@dataclass(frozen=True, slots=True)
class PromptVotes:
    """How one training prompt's samples voted: `leading` votes for its leading answer, of `drawn`, of at most `n`; `lead`
    over the second; `right` where there is a label."""

    leading: int
    drawn: int
    n: int
    kept: bool
    reason: str | None = None
    lead: int = 0
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class ShownSample:
    """One sample: `steps` are its intermediate texts and, last, its final one; `failure` says why `answer` is None."""

    index: int
    steps: Sequence[str]
    answer: str | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class ShownVote:
    """A training prompt with its samples: `outcome` is the answer where it was kept, else the reason why not."""

    id: str
    prompt: str
    outcome: str
    kept: bool
    samples: Sequence[ShownSample] = ()


@dataclass(frozen=True, slots=True)
class SystemAnswer:
    """What a system said to a test prompt: `steps` are the texts before the final `text`; `correct` needs a label."""

    text: str
    steps: Sequence[str] = ()
    answer: str | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """A test prompt answered by each system, by the systems' names in report.json."""

    id: str
    prompt: str
    gold: str | None = None
    slices: Sequence[str] = ()
    systems: Mapping[str, SystemAnswer] = field(default_factory=dict[str, SystemAnswer])


@dataclass(frozen=True, slots=True)
class Page:
    """What the page shows. Any part of `report` (report.json) may be missing or None: a run may be half finished.

    `votes` says how many prompts voted in which way; the first `nearest` of `curated` are those
    nearest to the line; `shown_of` and `tested_of` are how many prompts `curated` and `tested`
    were taken from (None: they are all).
    """

    report: Json = field(default_factory=dict[str, Any])
    votes: Mapping[PromptVotes, int] = field(default_factory=dict[PromptVotes, int])
    curated: Sequence[ShownVote] = ()
    tested: Sequence[ShownAnswer] = ()
    shown_of: int | None = None
    tested_of: int | None = None
    run: str = "RUN"
    nearest: int = 0


NAMES = {
    "system1": "System 1",
    "system2": "System 2",
    "distilled": "Distilled",
    "system1_voted": "System 1, voted",
    "control_unfiltered": "Control: no filter",
    "control_system1_self": "Control: System 1 self",
}
MINUS = " \N{MINUS SIGN} "
MAIN = ("system1", "system2", "distilled")


def part(parent: object, name: str) -> Json:
    """The object `name` of `parent`, empty where there is none."""
    value = cast(Json, parent).get(name) if isinstance(parent, Mapping) else None
    return cast(Json, value) if isinstance(value, Mapping) else {}


def parts(parent: Json, name: str) -> list[Json]:
    """The objects in the list `name` of `parent`."""
    value = parent.get(name)
    return [cast(Json, v) for v in cast(list[Any], value) if isinstance(v, Mapping)] if isinstance(value, list) else []


def num(parent: Json, name: str) -> float | None:
    """The finite number `name` of `parent`, or None."""
    value = parent.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def interval(parent: Json, name: str) -> plots.Interval | None:
    value = parent.get(name)
    if not isinstance(value, list | tuple) or len(cast(list[Any], value)) != 2:
        return None
    low, high = (num({"": end}, "") for end in cast(list[Any], value))
    return None if low is None or high is None else (low, high)


def system_name(name: str, system: Json | None = None) -> str:
    """What the page calls the system `name`."""
    shown = NAMES.get(name) or "System 1, " + name.removeprefix("baseline_").replace("_", " ")
    votes = num(system or {}, "votes")
    return f"{shown} ({votes:.0f} votes)" if votes is not None and votes > 1 else shown


def kind_of(name: str) -> str:
    """The CSS class that colours a system; the others share one."""
    return name if name in MAIN else "other"


def _plot(draw: Any, *args: Any) -> Markup:
    """`draw(id, *args, width)` twice; the id of a drawing tells it from the other."""
    return Markup("").join(
        Markup('<div class="{}">{}</div>').format(size, draw(f"{draw.__name__}-{size}", *args, width))
        for size, width in (("wide", WIDE), ("narrow", NARROW))
    )


def _headlines(systems: Json, measure: str, ceiling: float | None) -> list[dict[str, Any]]:
    """Three figures for the three main systems, with the distilled one's (or System 2's) ratio to the others."""
    shown = [name for name in MAIN if name in systems]
    labelled = measure == "accuracy"
    cards: list[dict[str, Any]] = []
    for title, key, form in (
        ("Accuracy" if labelled else "Agreement with System 2", measure, percent),
        ("Tokens per answer", "tokens_per_answer", count),
        ("Latency, median", "latency_ms_p50", duration),
    ):
        values = {name: num(systems[name], key) for name in shown}
        if not labelled and key == measure and "system2" in values:
            values["system2"] = ceiling
        top = 1.0 if key == measure else max([v for v in values.values() if v is not None], default=0.0) or 1.0
        rows = [
            (system_name(n), kind_of(n), form(v), None if v is None else plots.bar(v / top, kind_of(n)))
            for n, v in values.items()
        ]
        mine = "distilled" if "distilled" in values else "system2"
        notes: list[str | None] = []
        for other in ("system2", "system1"):
            a, b, than = values.get(mine), values.get(other), system_name(other)
            if other == mine or a is None or b is None:
                continue
            if key == measure:
                than = f"{than}'s" if labelled or other != "system2" else "the ceiling"
                notes.append((f"{a / b:.0%} of {than}, " if b else f"against {than}, ") + f"{points(a - b)} points")
            elif key == "latency_ms_p50":
                notes.append(plots.compared(a, b, than, "slower than", "faster than"))
            else:
                notes.append(plots.compared(a, b, than, "as many as", "fewer than"))
        cards.append({"title": title, "rows": rows, "who": system_name(mine), "notes": [*filter(None, notes)]})
    return cards


def _system_row(
    name: str, system: Json, votes: Json, marks: Sequence[float] = (), ceiling: float | None = None, width: int = 220
) -> dict[str, Any]:
    """A system, or a slice of it, as the tables show it; System 2's agreement is the one with its independent draw."""
    own = name == "system2"
    agreement = ceiling if own else num(system, "agreement_with_system2")
    ci, agreement_ci = interval(system, "accuracy_ci"), None if own else interval(system, "agreement_ci")
    return {
        "name": system_name(name, votes),
        "kind": kind_of(name),
        "system": system,
        "ci": ci,
        "strip": plots.strip(num(system, "accuracy"), ci, kind_of(name), width=width),
        "own": own,
        "agreement": agreement,
        "agreement_ci": agreement_ci,
        "agreement_strip": plots.strip(agreement, agreement_ci, kind_of(name), marks=marks, width=width),
    }


def _differences(report: Json, margin: float | None) -> list[tuple[str, bool, list[dict[str, Any]]]]:
    """(name, whether it is between the main systems, a row for each slice) with one scale for all."""
    items = parts(report, "differences")
    ends = [v for item in items for v in (*(interval(item, "ci") or ()), num(item, "difference"), margin)]
    reach = 1.05 * max((abs(v) for v in ends if v is not None), default=0.0) or 1.0
    band = None if margin is None else (-margin, margin)
    found: dict[str, list[dict[str, Any]]] = {}
    for item in sorted(items, key=lambda item: item.get("slice") != report.get("headline")):
        value, ci = num(item, "difference"), interval(item, "ci")
        strip = plots.strip(value, ci, "other", span=(-reach, reach), marks=[0.0], band=band, width=180)
        row = {"slice": item.get("slice"), "value": value, "ci": ci, "strip": strip}
        found.setdefault(str(item.get("name", "")), []).append(row)
    sides = {name: name.split(" - ") for name in found}
    shown = {name: MINUS.join(system_name(side) for side in sides[name]) for name in found}
    return [(shown[name], all(side in MAIN for side in sides[name]), rows) for name, rows in found.items()]


def _curation(page: Page) -> dict[str, Any] | None:
    """Counts, reasons and the histogram; where report.json has no counts yet, the votes' own."""
    given = part(page.report, "curation")
    kept, prompts = num(given, "kept"), num(given, "prompts")
    reasons = {r: n for r in part(given, "discarded") if (n := num(part(given, "discarded"), r)) is not None}
    if kept is None and page.votes:
        kept = sum(number for v, number in page.votes.items() if v.kept)
        reasons = Counter[str]()
        for v, number in page.votes.items():
            if not v.kept:
                reasons[v.reason or "no reason given"] += number
    if prompts is None:
        prompts = sum(page.votes.values()) or None
    if prompts is None and kept is None and not given:
        return None
    bars = [("kept", kept, "kept"), *((r, n, "gone") for r, n in sorted(reasons.items(), key=lambda r: -r[1]))]
    bars = [bar for bar in bars if bar[1] is not None]
    total = prompts or sum(cast(float, n) for _, n, _ in bars) or 1
    undecided = total - sum(cast(float, n) for _, n, _ in bars)
    if bars and undecided > 0:
        bars.append(("not decided yet", undecided, "other"))
    found: dict[str, Any] = {"given": given, "kept": kept, "prompts": prompts}
    found["bars"] = [(r, n, cast(float, n) / total, plots.bar(cast(float, n) / total, k, 240)) for r, n, k in bars]
    samples, fixed = num(given, "samples"), num(given, "samples_fixed_n")
    found["share_drawn"] = samples / fixed if samples is not None and fixed else None
    if page.votes:
        n = max(v.n for v in page.votes)
        tally = Counter[tuple[int, bool]]()
        for v, number in page.votes.items():
            tally[v.leading, v.kept] += number
        bins = [(tally[i, True], tally[i, False]) for i in range(max(n, *(v.leading for v in page.votes)) + 1)]
        least = num(part(page.report, "settings"), "min_agreement")
        found["needed"] = None if least is None else votes_needed(n, least)
        found["early"] = sum(number for v, number in page.votes.items() if v.drawn < v.n)
        found["voted"] = sum(page.votes.values())
        found["n"] = n
        found["plot"] = _plot(plots.histogram, bins, found["needed"])
    lines = parts(given, "thresholds")
    found["thresholds"] = [(num(t, "votes"), num(t, "kept"), num(t, "label_precision")) for t in lines]
    if lines:
        points = [(cast(int, v), cast(int, k), p) for v, k, p in found["thresholds"]]
        found["curve"] = _plot(plots.threshold_curve, points, total, found.get("needed"))
    return found


def _training(report: Json) -> dict[str, Any] | None:
    given = part(report, "training")
    if not given:
        return None
    items = parts(given, "history")
    pairs = [(s, v) for h in items if (s := num(h, "step")) is not None and (v := num(h, "loss")) is not None]
    per, history = plots.thin(pairs)
    return {"given": given, "per": per, "plot": _plot(plots.loss_curve, history) if len(history) > 1 else None}


def _vote_card(vote: ShownVote) -> dict[str, Any]:
    tally = Counter(s.answer if s.answer is not None else f"({s.failure or 'no answer'})" for s in vote.samples)
    return {"vote": vote, "tally": tally.most_common(), "key": "kept" if vote.kept else vote.outcome}


def _answer_card(shown: ShownAnswer, slices: Sequence[str]) -> dict[str, Any]:
    fast, slow, own = (shown.systems.get(name) for name in MAIN)
    right = [s.correct if s else None for s in (fast, slow, own)]
    tests = {
        "gain": right[2] is True and right[0] is False,
        "loss": right[2] is False and right[0] is True,
        "ahead": right[2] is True and right[1] is False,
        "behind": right[2] is False and right[1] is True,
        "differs": own is not None and slow is not None and own.answer != slow.answer,
        "thought": right[1] is True and right[0] is False,
        "overthought": right[1] is False and right[0] is True,
        "unread": any(s.answer is None for s in shown.systems.values()),
    }
    tags = [name for name, holds in tests.items() if holds]
    order = [n for n in NAMES if n in shown.systems] + [n for n in shown.systems if n not in NAMES]
    answers = [(system_name(n), kind_of(n), shown.systems[n]) for n in order]
    return {"shown": shown, "answers": answers, "tags": tags, "slices": [slices.index(s) for s in shown.slices]}


def _view(page: Page) -> dict[str, Any]:
    """Everything the template names."""
    report = page.report
    given = part(report, "systems")
    names = [n for n in NAMES if part(given, n)] + [n for n in given if n not in NAMES and part(given, n)]
    systems = {n: part(given, n) for n in names}
    labelled = any(num(s, "accuracy") is not None for s in systems.values())
    measure = "accuracy" if labelled else "agreement_with_system2"
    agreement = part(report, "agreement")
    floor, ceiling = num(agreement, "floor"), num(agreement, "ceiling")
    marks = [m for m in (floor, ceiling) if m is not None]
    dots: list[plots.Point] = []
    for n, s in systems.items():
        y = ceiling if n == "system2" and not labelled else num(s, measure)
        if (x := num(s, "tokens_per_answer")) is not None and y is not None:
            ci = interval(s, "accuracy_ci") if labelled else interval(s, "agreement_ci") if n != "system2" else None
            dots.append(plots.Point(system_name(n, s), kind_of(n), x, y, ci))
    by_slice: dict[str, list[dict[str, Any]]] = {}
    for n, s in systems.items():
        for slice_name in part(s, "slices"):
            if cut := part(part(s, "slices"), slice_name):
                by_slice.setdefault(slice_name, []).append(_system_row(n, cut, s))
    shown_slices = list(dict.fromkeys(s for t in page.tested for s in t.slices))
    tested = [_answer_card(t, shown_slices) for t in page.tested]
    curated = [_vote_card(v) for v in page.curated]
    margin = num(part(report, "settings"), "margin")
    label = "Accuracy" if labelled else "Agreement with System 2"
    return {
        "page": page,
        "report": report,
        "run": shlex.quote(page.run),
        "labelled": labelled,
        "systems": [_system_row(n, s, s, marks, ceiling, 116) for n, s in systems.items()],
        "evaluated": bool(systems),
        "distilled": "distilled" in systems,
        "headlines": _headlines(systems, measure, ceiling) if any(n in systems for n in MAIN) else [],
        "tests": next((v for s in systems.values() if (v := num(s, "n")) is not None), None),
        "floor": floor,
        "ceiling": ceiling,
        "scatter": _plot(plots.scatter, dots, label) if len(dots) > 1 else None,
        "measure": label,
        "slices": by_slice,
        "margin": margin,
        "differences": _differences(report, margin),
        "curation": _curation(page),
        "training": _training(report),
        "curated": curated,
        "outcomes": Counter(card["key"] for card in curated).most_common(),
        "tested": tested,
        "tags": Counter(tag for card in tested for tag in card["tags"]),
        "shown_slices": [(i, s, sum(i in c["slices"] for c in tested)) for i, s in enumerate(shown_slices)],
    }


def _plain(value: object) -> str:
    """A setting as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _finalize(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Markup):
        return plots.visible(value)
    return "" if value is None else value


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "percent": percent, "count": count, "points": points, "duration": duration, "plain": _plain, "sha256": _sha256
}  # fmt: skip


def render(page: Page) -> str:
    """One HTML file that loads nothing from anywhere and in which no text of a model can run or break the page."""
    return _TEMPLATES.get_template("page.html.jinja").render(**_view(page), num=num, part=part)
