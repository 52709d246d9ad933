"""What each section of the page says of the report, as the template names it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from markupsafe import Markup

from secondnature.report import plots
from secondnature.report.fields import MAIN, Json, in_order, interval, kind_of, num, part, parts, system_name
from secondnature.report.marks import bar, strip
from secondnature.report.outcomes import outcomes
from secondnature.report.shown import Page, ShownAnswer, ShownVote
from secondnature.report.texts import compared, count, duration, percent, points
from secondnature.verify.vote import votes_needed

WIDE, NARROW = 700, 326  # two drawings of each plot, for desks and for phones; CSS shows one
MINUS = " \N{MINUS SIGN} "


def plot(draw: Any, *args: Any) -> Markup:
    """`draw(id, *args, width)` twice; the id of a drawing tells it from the other."""
    return Markup("").join(
        Markup('<div class="{}">{}</div>').format(size, draw(f"{draw.__name__}-{size}", *args, width))
        for size, width in (("wide", WIDE), ("narrow", NARROW))
    )


def headlines(systems: Json, measure: str) -> list[dict[str, Any]]:
    """Three figures for the three main systems, with what the distilled one (or System 2) has to the others."""
    shown = [name for name in MAIN if name in systems]
    labelled = measure == "accuracy"
    cards: list[dict[str, Any]] = []
    for title, key, form in (
        ("Accuracy" if labelled else "Agreement with System 2", measure, percent),
        ("Tokens per answer", "tokens_per_answer", count),
        ("Latency, median", "latency_ms_p50", duration),
    ):
        values = {name: num(systems[name], key) for name in shown}
        if all(value is None for value in values.values()):
            continue
        top = 1.0 if key == measure else max([v for v in values.values() if v is not None], default=0.0) or 1.0
        rows = [
            (system_name(n), kind_of(n), form(v), None if v is None else bar(v / top, kind_of(n)))
            for n, v in values.items()
        ]
        mine = "distilled" if "distilled" in values else "system2"
        notes: list[str | None] = []
        for other in ("system2", "system1"):
            a, b, than = values.get(mine), values.get(other), system_name(other)
            if other == mine or a is None or b is None:
                continue
            if key == measure:
                than = than if labelled or other != "system2" else "the ceiling"
                notes.append(f"{points(a - b)} points against {than}")
            elif key == "latency_ms_p50":
                notes.append(compared(a, b, than, "slower than", "faster than"))
                if mine == "distilled" and a > 1.05 * b and _fewer_tokens(systems, mine, other):
                    notes.append(
                        "slower a token, since the adapter runs beside the weights; merged into them it does not"
                    )
            else:
                notes.append(compared(a, b, than, "as many as", "fewer than"))
        cards.append({"title": title, "rows": rows, "who": system_name(mine), "notes": [*filter(None, notes)]})
    return cards


def _fewer_tokens(systems: Json, first: str, second: str) -> bool:
    one, other = (num(part(systems, name), "tokens_per_answer") for name in (first, second))
    return one is not None and other is not None and one < other


def system_row(name: str, system: Json, votes: Json, marks: Sequence[float] = (), width: int = 220) -> dict[str, Any]:
    """A system, or a slice of it, as the tables show it; System 2's agreement is the one with its second draw."""
    agreement = num(system, "agreement_with_system2")
    ci, agreement_ci = interval(system, "accuracy_ci"), interval(system, "agreement_ci")
    return {
        "name": system_name(name, votes),
        "kind": kind_of(name),
        "system": system,
        "ci": ci,
        "strip": strip(num(system, "accuracy"), ci, kind_of(name), width=width),
        "own": name == "system2",
        "agreement": agreement,
        "agreement_ci": agreement_ci,
        "agreement_strip": strip(agreement, agreement_ci, kind_of(name), marks=marks, width=width),
    }


def differences(report: Json, margin: float | None) -> list[tuple[str, bool, list[dict[str, Any]]]]:
    """(name, whether it is between the main systems, a row for each slice) with one scale for all."""
    items = parts(report, "differences")
    ends = [v for item in items for v in (*(interval(item, "ci") or ()), num(item, "difference"), margin)]
    reach = 1.05 * max((abs(v) for v in ends if v is not None), default=0.0) or 1.0
    band = None if margin is None else (-margin, margin)
    found: dict[str, list[dict[str, Any]]] = {}
    for item in sorted(items, key=lambda item: item.get("slice") != report.get("headline")):
        value, ci = num(item, "difference"), interval(item, "ci")
        drawn = strip(value, ci, "other", span=(-reach, reach), marks=[0.0], band=band, width=180)
        row = {"slice": item.get("slice"), "value": value, "ci": ci, "strip": drawn}
        found.setdefault(str(item.get("name", "")), []).append(row)
    sides = {name: name.split(" - ") for name in found}
    shown = {name: MINUS.join(system_name(side) for side in sides[name]) for name in found}
    return [(shown[name], all(side in MAIN for side in sides[name]), rows) for name, rows in found.items()]


def curation(page: Page) -> dict[str, Any] | None:
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
    found["bars"] = [(r, n, cast(float, n) / total, bar(cast(float, n) / total, k, 240)) for r, n, k in bars]
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
        found["plot"] = plot(plots.histogram, bins, found["needed"])
    lines = parts(given, "thresholds")
    found["thresholds"] = [(num(t, "votes"), num(t, "kept"), num(t, "label_precision")) for t in lines]
    if lines:
        points = [(cast(int, v), cast(int, k), p) for v, k, p in found["thresholds"]]
        found["curve"] = plot(plots.threshold_curve, points, total, found.get("needed"))
    return found


def training(report: Json) -> dict[str, Any] | None:
    given = part(report, "training")
    if not given:
        return None
    items = parts(given, "history")
    pairs = [(s, v) for h in items if (s := num(h, "step")) is not None and (v := num(h, "loss")) is not None]
    per, history = plots.thin(pairs)
    return {"given": given, "per": per, "plot": plot(plots.loss_curve, history) if len(history) > 1 else None}


def vote_card(vote: ShownVote) -> dict[str, Any]:
    tally = Counter(s.answer if s.answer is not None else f"({s.failure or 'no answer'})" for s in vote.samples)
    return {"vote": vote, "tally": tally.most_common(), "key": "kept" if vote.kept else vote.outcome}


def answer_card(shown: ShownAnswer, slices: Sequence[str]) -> dict[str, Any]:
    tags = outcomes({name: (s.answer, s.correct) for name, s in shown.systems.items()})
    answers = [(system_name(n), kind_of(n), shown.systems[n]) for n in in_order(shown.systems)]
    return {"shown": shown, "answers": answers, "tags": tags, "slices": [slices.index(s) for s in shown.slices]}
