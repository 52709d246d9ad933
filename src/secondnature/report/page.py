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

from secondnature.report import plots, sections
from secondnature.report.outcomes import OUTCOMES
from secondnature.report.shown import Page
from secondnature.report.texts import count, duration, money, p_value, percent, points, short, shorten, visible
from secondnature.systems import DISTILLED, MAIN, SYSTEM1


def _view(page: Page) -> dict[str, Any]:
    """Everything the template names."""
    report = page.report
    systems, labelled = report.measured(), report.labelled
    floor, ceiling = (None, None) if report.agreement is None else (report.agreement.floor, report.agreement.ceiling)
    marks = [mark for mark in (floor, ceiling) if mark is not None]
    dots: list[plots.Point] = []
    for system, figures in systems.items():
        value, ci = sections.score(figures, labelled)
        if value is not None:
            dots.append(plots.Point(figures.caption(system), system.css, figures.tokens_per_answer, value, ci))
    by_slice: dict[str, list[dict[str, Any]]] = {}
    for system, figures in systems.items():
        for name, scores in figures.slices.items():
            by_slice.setdefault(name, []).append(sections.system_row(system, scores, figures))
    shown_slices = list(dict.fromkeys(s for t in page.tested for s in t.slices))
    tested = [sections.answer_card(t, shown_slices) for t in page.tested]
    curated = [sections.vote_card(v) for v in page.curated]
    label = "Accuracy" if labelled else "Agreement with System 2"
    return {
        "page": page,
        "main": [system.key for system in MAIN],
        "comparisons": OUTCOMES,
        "report": report,
        "run": shlex.quote(page.run),
        "recipe": shlex.quote(f"{page.run}/recipe.yaml"),
        "labelled": labelled,
        "systems": [sections.system_row(s, f, f, marks, 116) for s, f in systems.items()],
        "system1": systems.get(SYSTEM1),
        "priced": any(f.cost_per_1000 is not None for f in systems.values()),
        "timed": any(f.answers_per_second is not None for f in systems.values()),
        "latencies": any(f.latency_ms_p50 is not None for f in systems.values()),
        "evaluated": bool(systems),
        "distilled": DISTILLED in systems,
        "headlines": sections.headlines(systems, labelled) if any(system in systems for system in MAIN) else [],
        "tests": next((f.n for f in systems.values()), None),
        "examples": page.examples if systems else [],
        "floor": floor,
        "ceiling": ceiling,
        "scatter": sections.plot(plots.scatter, dots, label) if len(dots) > 1 else None,
        "measure": label,
        "slices": by_slice,
        "margin": report.settings.margin,
        "differences": sections.differences(report),
        "decisions": sections.decisions(report),
        "seeds": sections.seeds(report, labelled),
        "stability": sections.stability(systems),
        "regression": report.regression,
        "contamination": sections.contamination(report.contamination, systems),
        "curation": sections.curation(page),
        "training": sections.training(report.training),
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
    return _TEMPLATES.get_template("page.html.jinja").render(**_view(page))
