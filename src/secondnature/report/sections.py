"""What each section of the page says of the report, as the template names it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from secondnature.report import plots
from secondnature.report.marks import bar, strip
from secondnature.report.model import Contamination, Interval, Report, Scores, SystemFigures, Training
from secondnature.report.outcomes import outcomes
from secondnature.report.shown import Page, ShownAnswer, ShownVote
from secondnature.report.texts import compared, count, duration, percent, points
from secondnature.systems import DISTILLED, MAIN, SYSTEM1, SYSTEM2, SystemId
from secondnature.vote import votes_needed

WIDE, NARROW = 700, 326  # two drawings of each plot, for desks and for phones; CSS shows one
MINUS = " \N{MINUS SIGN} "
FLAGGED_SHOWN = 50
PERTURBED = {
    "swap": "The two responses change places: position bias",
    "shuffle": "The options change places",
    "reword": "The question is put in other words",
}
CONTAMINATED = {
    "exact": "the same prompt is a training prompt",
    "n-gram": "a long run of its words is in a training prompt",
    "near-duplicate": "nearly all its words are those of a training prompt",
}
Systems = Mapping[SystemId, SystemFigures]


def plot(draw: Any, *args: Any) -> Markup:
    """`draw(id, *args, width)` twice; the id of a drawing tells it from the other."""
    return Markup("").join(
        Markup('<div class="{}">{}</div>').format(size, draw(f"{draw.__name__}-{size}", *args, width))
        for size, width in (("wide", WIDE), ("narrow", NARROW))
    )


def score(scores: Scores, labelled: bool) -> tuple[float | None, Interval | None]:
    """Accuracy, or without labels agreement with System 2, with its interval."""
    if labelled:
        return scores.accuracy, scores.accuracy_ci
    return scores.agreement_with_system2, scores.agreement_ci


def headlines(systems: Systems, labelled: bool) -> list[dict[str, Any]]:
    """Three figures for the three main systems, with what the distilled one (or System 2) has to the others."""
    shown = {system: systems[system] for system in MAIN if system in systems}
    mine = DISTILLED if DISTILLED in shown else SYSTEM2
    others = [other for other in (SYSTEM2, SYSTEM1) if other != mine]
    title = "Accuracy" if labelled else "Agreement with System 2"
    cards = [
        _card(title, {s: score(f, labelled)[0] for s, f in shown.items()}, percent, 1.0),
        _card("Tokens per answer", {s: f.tokens_per_answer for s, f in shown.items()}, count),
        _card("Latency, median", {s: f.latency_ms_p50 for s, f in shown.items()}, duration),
    ]  # fmt: skip
    for card, notes in zip(cards, (_score_note, _tokens_note, _latency_notes), strict=True):
        values: dict[SystemId, float | None] = card.pop("values")
        for other in others:
            a, b = values.get(mine), values.get(other)
            if a is not None and b is not None:
                than = "the ceiling" if other == SYSTEM2 and not labelled and notes is _score_note else other.caption
                fewer = shown[mine].tokens_per_answer < shown[other].tokens_per_answer
                card["notes"] += notes(a, b, than, mine == DISTILLED and fewer)
        card["who"] = mine.caption
    return [card for card in cards if any(value is not None for *_, value in card["rows"])]


def _card(title: str, values: Mapping[SystemId, float | None], form: Any, top: float | None = None) -> dict[str, Any]:
    top = top or max([v for v in values.values() if v is not None], default=0.0) or 1.0
    rows = [(s.caption, s.css, form(v), None if v is None else bar(v / top, s.css)) for s, v in values.items()]
    return {"title": title, "rows": rows, "notes": list[str](), "values": values}


def _score_note(a: float, b: float, than: str, _: bool) -> list[str]:
    return [f"{points(a - b)} points against {than}"]


def _tokens_note(a: float, b: float, than: str, _: bool) -> list[str]:
    said = compared(a, b, than, "as many as", "fewer than")
    return [] if said is None else [said]


def _latency_notes(a: float, b: float, than: str, fewer: bool) -> list[str]:
    said = compared(a, b, than, "slower than", "faster than")
    beside = "slower a token, since the adapter runs beside the weights; merged into them it does not"
    return [*([] if said is None else [said]), *([beside] if fewer and a > 1.05 * b else [])]


def system_row(
    system: SystemId, scores: Scores, figures: SystemFigures, marks: Sequence[float] = (), width: int = 220
) -> dict[str, Any]:
    """A system, or a slice of it, as the tables show it; System 2's agreement is the one with its second sample."""
    return {
        "name": figures.caption(system),
        "kind": system.css,
        "main": system in MAIN,
        "system": scores,
        "ci": scores.accuracy_ci,
        "strip": strip(scores.accuracy, scores.accuracy_ci, system.css, width=width),
        "own": system == SYSTEM2,
        "agreement": scores.agreement_with_system2,
        "agreement_ci": scores.agreement_ci,
        "agreement_strip": strip(
            scores.agreement_with_system2, scores.agreement_ci, system.css, marks=marks, width=width
        ),
    }


def differences(report: Report) -> list[tuple[str, bool, list[dict[str, Any]]]]:
    """(name, whether it is between the main systems, a row for each slice) with one scale for all."""
    margin = report.settings.margin
    reach = _reach([margin, *(end for item in report.differences for end in (*item.ci, item.difference))])
    found: dict[tuple[SystemId, SystemId], list[dict[str, Any]]] = {}
    for item in sorted(report.differences, key=lambda item: item.slice != report.headline):
        drawn = strip(
            item.difference, item.ci, "other", span=(-reach, reach), marks=[0.0], band=(-margin, margin), width=180
        )
        row = {"slice": item.slice, "value": item.difference, "ci": item.ci, "strip": drawn}
        found.setdefault((item.first, item.second), []).append(row)
    return [
        (MINUS.join(side.caption for side in sides), all(side in MAIN for side in sides), rows)
        for sides, rows in found.items()
    ]


def _reach(ends: Sequence[float]) -> float:
    """How far an axis reaches to both sides of 0."""
    return 1.05 * max(map(abs, ends), default=0.0) or 1.0


def decisions(report: Report) -> list[dict[str, Any]]:
    """The tests behind the verdict, on one scale."""
    reach = _reach([end for test in report.tests for end in (*test.ci, test.difference, test.margin)])
    rows: list[dict[str, Any]] = []
    for test in report.tests:
        band = (-test.margin, test.margin) if test.margin else None
        drawn = strip(test.difference, test.ci, "other", span=(-reach, reach), marks=[0.0], band=band, width=150)
        rows.append({"test": test, "strip": drawn})
    return rows


def seeds(report: Report, labelled: bool) -> dict[str, Any] | None:
    """One row a training seed, and how far they lie apart; none where only one seed was trained."""
    items = report.seeds or []
    if len(items) < 2:
        return None
    slow = report.of(SYSTEM2)
    mark = None if slow is None else slow.accuracy
    if not labelled:
        mark = None if report.agreement is None else report.agreement.ceiling
    rows: list[dict[str, Any]] = []
    for item in items:
        value, ci = score(item, labelled)
        drawn = strip(value, ci, "distilled", marks=[] if mark is None else [mark])
        rows.append({"seed": item, "value": value, "ci": ci, "strip": drawn})
    values = [row["value"] for row in rows if row["value"] is not None]
    spread = (min(values), max(values), max(values) - min(values), sum(values) / len(values)) if values else None
    return {"rows": rows, "spread": spread, "verdicts": Counter(s.verdict for s in items).most_common(), "mark": mark}


def stability(systems: Systems) -> list[tuple[str, list[dict[str, Any]]]]:
    """(what was changed, a row for each system)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for system, figures in systems.items():
        for change, given in (figures.stability or {}).items():
            drawn = strip(given.changed, given.changed_ci, system.css)
            row = {"name": figures.caption(system), "n": given.n, "value": given.changed, "ci": given.changed_ci}
            found.setdefault(PERTURBED.get(change, change), []).append({**row, "strip": drawn})
    return [*found.items()]


def contamination(given: Contamination | None, systems: Systems) -> dict[str, Any] | None:
    """Which test prompts are also in training, and the systems without them."""
    if given is None:
        return None
    return {
        "given": given,
        "kinds": [(kind, number, CONTAMINATED.get(kind)) for kind, number in given.kinds.items() if number],
        "rows": given.rows[:FLAGGED_SHOWN],
        "systems": _without(systems, given) if given.rows else [],
    }


def _without(systems: Systems, given: Contamination) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for system, whole in systems.items():
        if (rest := given.without.systems.get(system)) is None:
            continue
        labelled = rest.accuracy is not None
        sides = [score(side, labelled) for side in (whole, rest)]
        (before, _), (after, _) = sides
        change = None if before is None or after is None else after - before
        strips = [strip(value, ci, system.css) for value, ci in sides]
        rows.append({"name": whole.caption(system), "sides": [*zip(sides, strips, strict=True)], "change": change})
    return rows


def curation(page: Page) -> dict[str, Any] | None:
    """Counts, reasons, the histogram of the votes, and what each threshold would keep."""
    given, least = page.report.curation, page.report.settings.min_agreement
    if given is None:
        return None
    total = given.prompts or 1
    bars = [("kept", given.kept, "kept")]
    bars += [(reason, n, "gone") for reason, n in sorted(given.discarded.items(), key=lambda item: -item[1])]
    found: dict[str, Any] = {"given": given, "kept": given.kept, "prompts": given.prompts}
    found["bars"] = [(reason, n, n / total, bar(n / total, kind, 240)) for reason, n, kind in bars]
    found["share_drawn"] = given.samples / given.samples_fixed_n if given.samples_fixed_n else None
    if page.votes:
        n = max(v.n for v in page.votes)
        tally = Counter[tuple[int, bool]]()
        for v, number in page.votes.items():
            tally[v.leading, v.kept] += number
        bins = [(tally[i, True], tally[i, False]) for i in range(max(n, *(v.leading for v in page.votes)) + 1)]
        found["needed"] = votes_needed(n, least)
        found["early"] = sum(number for v, number in page.votes.items() if v.drawn < v.n)
        found["voted"] = sum(page.votes.values())
        found["n"] = n
        found["plot"] = plot(plots.histogram, bins, found["needed"])
    if given.thresholds:
        found["thresholds"] = [(t.votes, t.kept, t.label_precision) for t in given.thresholds]
        found["curve"] = plot(plots.threshold_curve, found["thresholds"], total, found.get("needed"))
    return found


def training(given: Training | None) -> dict[str, Any] | None:
    if given is None:
        return None
    per, history = plots.thin([(loss.step, loss.loss) for loss in given.history])
    return {"given": given, "per": per, "plot": plot(plots.loss_curve, history) if len(history) > 1 else None}


def vote_card(vote: ShownVote) -> dict[str, Any]:
    tally = Counter(s.answer if s.answer is not None else f"({s.failure or 'no answer'})" for s in vote.samples)
    return {"vote": vote, "tally": tally.most_common(), "key": "kept" if vote.kept else vote.outcome}


def answer_card(shown: ShownAnswer, slices: Sequence[str]) -> dict[str, Any]:
    tags = outcomes({name: (s.answer, s.correct) for name, s in shown.systems.items()})
    systems = sorted(((SystemId.parse(name), said) for name, said in shown.systems.items()), key=lambda s: s[0].order)
    answers = [(system.caption, system.css, said) for system, said in systems]
    return {"shown": shown, "answers": answers, "tags": tags, "slices": [slices.index(s) for s in shown.slices]}
