"""A run as one self-contained HTML page. Everything a model wrote is untrusted text: nothing here marks it as safe."""

import base64
import hashlib
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from secondnature.report import checks, plots
from secondnature.report.fields import MAIN, in_order, interval, kind_of, num, part, string, strings, system_name
from secondnature.report.outcomes import OUTCOMES
from secondnature.report.sections import (
    answer_card,
    curation,
    differences,
    headlines,
    plot,
    system_row,
    training,
    vote_card,
)  # fmt: skip
from secondnature.report.shown import Page
from secondnature.report.texts import count, duration, money, p_value, percent, points, short, shorten, visible


def _view(page: Page) -> dict[str, Any]:
    """Everything the template names."""
    report = page.report
    given = part(report, "systems")
    systems = {name: part(given, name) for name in in_order(given) if part(given, name)}
    labelled = any(num(s, "accuracy") is not None for s in systems.values())
    measure = "accuracy" if labelled else "agreement_with_system2"
    agreement = part(report, "agreement")
    floor, ceiling = num(agreement, "floor"), num(agreement, "ceiling")
    marks = [m for m in (floor, ceiling) if m is not None]
    dots: list[plots.Point] = []
    for n, s in systems.items():
        if (x := num(s, "tokens_per_answer")) is not None and (y := num(s, measure)) is not None:
            ci = interval(s, "accuracy_ci" if labelled else "agreement_ci")
            dots.append(plots.Point(system_name(n, s), kind_of(n), x, y, ci))
    by_slice: dict[str, list[dict[str, Any]]] = {}
    for n, s in systems.items():
        for slice_name in part(s, "slices"):
            if cut := part(part(s, "slices"), slice_name):
                by_slice.setdefault(slice_name, []).append(system_row(n, cut, s))
    shown_slices = list(dict.fromkeys(s for t in page.tested for s in t.slices))
    tested = [answer_card(t, shown_slices) for t in page.tested]
    curated = [vote_card(v) for v in page.curated]
    margin = num(part(report, "settings"), "margin")
    label = "Accuracy" if labelled else "Agreement with System 2"

    def any_has(key: str) -> bool:
        return any(num(s, key) is not None for s in systems.values())

    return {
        "page": page,
        "main": MAIN,
        "comparisons": OUTCOMES,
        "report": report,
        "run": shlex.quote(page.run),
        "recipe": shlex.quote(f"{page.run}/recipe.yaml"),
        "labelled": labelled,
        "systems": [system_row(n, s, s, marks, 116) for n, s in systems.items()],
        "priced": any_has("cost_per_1000"),
        "timed": any_has("answers_per_second"),
        "latencies": any_has("latency_ms_p50"),
        "evaluated": bool(systems),
        "distilled": "distilled" in systems,
        "headlines": headlines(systems, measure) if any(n in systems for n in MAIN) else [],
        "tests": next((v for s in systems.values() if (v := num(s, "n")) is not None), None),
        "examples": page.examples if systems else [],
        "floor": floor,
        "ceiling": ceiling,
        "scatter": plot(plots.scatter, dots, label) if len(dots) > 1 else None,
        "measure": label,
        "slices": by_slice,
        "margin": margin,
        "differences": differences(report, margin),
        "caveats": strings(report, "caveats"),
        "decisions": checks.decisions(report),
        "saving": part(report, "saving"),
        "saving_ci": interval(part(report, "saving"), "ci"),
        "power": string(part(report, "power"), "sentence"),
        "seeds": checks.seeds(report, systems, measure),
        "stability": checks.stability(systems),
        "regression": checks.regression(report),
        "contamination": checks.contamination(report, systems),
        "curation": curation(page),
        "training": training(report),
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
        return visible(value)
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
_FILTERS: dict[str, Any] = {
    "percent": percent, "count": count, "points": points, "duration": duration, "money": money, "p": p_value, "short": short,
    "plain": _plain, "shorten": shorten, "sha256": _sha256,
}  # fmt: skip
_TEMPLATES.filters.update(_FILTERS)


def render(page: Page) -> str:
    """One HTML file that loads nothing from anywhere and in which no text of a model can run or break the page."""
    return _TEMPLATES.get_template("page.html.jinja").render(**_view(page), num=num, part=part, string=string)
