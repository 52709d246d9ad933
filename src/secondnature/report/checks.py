"""What the page says of the checks on the figures: tests, seeds, stability, regression, contamination."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from secondnature.report.fields import Json, interval, kind_of, num, part, parts, string, system_name
from secondnature.report.marks import strip

PERTURBED = {
    "swap": "The two responses change places: position bias",
    "shuffle": "The options change places",
    "rename": "People get other names",
    "reorder": "The sentences before the question change places",
    "reword": "The question is put in other words",
}
CONTAMINATED = {
    "exact": "the same prompt is a training prompt",
    "n-gram": "a long run of its words is in a training prompt",
    "near-duplicate": "nearly all its words are those of a training prompt",
    "completed": "the model finished the prompt from its beginning, so it may have seen it before",
    "answered alone": "the model gave the answer without the question",
}
FLAGGED_SHOWN = 50


def decisions(report: Json) -> list[dict[str, Any]]:
    """The tests behind the verdict, on one scale."""
    items = parts(report, "tests")
    ends = [v for t in items for v in (*(interval(t, "ci") or ()), num(t, "difference"), num(t, "margin"))]
    reach = 1.05 * max((abs(v) for v in ends if v is not None), default=0.0) or 1.0
    rows: list[dict[str, Any]] = []
    for test in items:
        margin, ci, value = num(test, "margin"), interval(test, "ci"), num(test, "difference")
        band = (-margin, margin) if margin else None
        drawn = strip(value, ci, "other", span=(-reach, reach), marks=[0.0], band=band, width=150)
        rows.append({"test": test, "value": value, "ci": ci, "strip": drawn, "decided": test.get("decided")})
    return rows


def seeds(report: Json, systems: Json, measure: str) -> dict[str, Any] | None:
    """One row a training seed, and how far they lie apart; none where only one seed was trained."""
    items = parts(report, "seeds")
    if len(items) < 2:
        return None
    agreed = measure == "agreement_with_system2"
    other = part(report, "agreement").get("ceiling") if agreed else part(systems, "system2").get(measure)
    mark = num({"": other}, "")
    rows: list[dict[str, Any]] = []
    for item in items:
        ci = interval(item, "agreement_ci" if agreed else "accuracy_ci")
        drawn = strip(num(item, measure), ci, "distilled", marks=[] if mark is None else [mark])
        rows.append({"seed": item, "value": num(item, measure), "ci": ci, "strip": drawn})
    values = [row["value"] for row in rows if row["value"] is not None]
    spread = (min(values), max(values), max(values) - min(values), sum(values) / len(values)) if values else None
    verdicts = Counter(v for item in items if (v := string(item, "verdict"))).most_common()
    return {"rows": rows, "spread": spread, "verdicts": verdicts, "mark": mark}


def stability(systems: Json) -> list[tuple[str, list[dict[str, Any]]]]:
    """(what was changed, a row for each system)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in systems:
        system = part(systems, name)
        for change in part(system, "stability"):
            given = part(part(system, "stability"), change)
            value, ci = num(given, "changed"), interval(given, "changed_ci")
            if value is not None:
                drawn = strip(value, ci, kind_of(name))
                row = {
                    "name": system_name(name, system),
                    "n": num(given, "n"),
                    "value": value,
                    "ci": ci,
                    "strip": drawn,
                }
                found.setdefault(PERTURBED.get(change, change), []).append(row)
    return [*found.items()]


def regression(report: Json) -> dict[str, Any] | None:
    """How far the distilled model left the base behind on prompts of other kinds."""
    given = part(report, "regression")
    if not given:
        return None
    tasks = [
        {
            "task": string(t, "task"),
            "metric": string(t, "metric"),
            "n": num(t, "n"),
            "scores": [(num(t, side), num(t, f"{side}_stderr")) for side in ("base", "distilled")],
            "difference": _less(num(t, "distilled"), num(t, "base")),
        }
        for t in parts(given, "tasks")
    ]
    moved = [
        {"prompt": string(c, "prompt") or "", "kl": num(c, "kl"), "base": string(c, "base"), "distilled": string(c, "distilled")}
        for c in parts(given, "changed")
    ]  # fmt: skip
    return {"given": given, "same_ci": interval(given, "same_ci"), "kl_ci": interval(given, "kl_ci"),
            "lengths": part(given, "lengths"), "tasks": tasks, "moved": moved}  # fmt: skip


def contamination(report: Json, systems: Json) -> dict[str, Any] | None:
    """Which test prompts the model may know from elsewhere, and the systems without them."""
    given = part(report, "contamination")
    if not given:
        return None
    kinds = part(given, "kinds")
    rows = parts(given, "rows")
    without = part(given, "without")
    return {
        "n": num(given, "n"),
        "flagged": num(given, "flagged"),
        "kinds": [(kind, number, CONTAMINATED.get(kind)) for kind in kinds if (number := num(kinds, kind))],
        "rows": [
            {key: string(r, key) for key in ("id", "kind", "with", "text", "other")} | {"score": num(r, "score")}
            for r in rows[:FLAGGED_SHOWN]
        ],
        "listed": len(rows),
        "left": num(without, "n"),
        "systems": _without(systems, part(without, "systems")) if rows else [],
        "asked": bool(part(given, "probed")),
    }


def _without(systems: Json, clean: Json) -> Sequence[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in systems:
        if part(clean, name):
            whole, rest = part(systems, name), part(clean, name)
            measure = "accuracy" if num(rest, "accuracy") is not None else "agreement_with_system2"
            key = "accuracy_ci" if measure == "accuracy" else "agreement_ci"
            sides = [(num(s, measure), interval(s, key)) for s in (whole, rest)]
            change = _less(sides[1][0], sides[0][0])
            strips = [strip(value, ci, kind_of(name)) for value, ci in sides]
            rows.append(
                {"name": system_name(name, whole), "sides": [*zip(sides, strips, strict=True)], "change": change}
            )
    return rows


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
