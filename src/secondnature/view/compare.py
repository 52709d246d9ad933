"""Two runs beside each other: the same training prompts, the same test prompts, and their figures."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secondnature.report.fields import MAIN, num, part, system_name
from secondnature.report.texts import count, duration, percent
from secondnature.view.folder import read_json
from secondnature.view.index import UNDECIDED, Index
from secondnature.view.queries import PER_PAGE, Listed

BOTH = "the same in both"
FIGURES = (
    ("accuracy", "accuracy", percent),
    ("agreement with System 2", "agreement_with_system2", percent),
    ("tokens per answer", "tokens_per_answer", count),
    ("latency, median", "latency_ms_p50", duration),
)


@dataclass(frozen=True)
class Compared:
    """One page of prompts that both runs have, with how many there are of each kind of difference."""

    kinds: Sequence[tuple[str, int]]
    listed: Listed
    only: int  # prompts that one run alone has


def _page(rows: list[dict[str, Any]], kind: str, page: int, only: int) -> Compared:
    kinds = Counter(name for row in rows for name in row["kinds"])
    kind = kind if kind in kinds else ""  # one of the other part's
    fitting = [row for row in rows if not kind or kind in row["kinds"]]
    page = max(1, min(page, -(-len(fitting) // PER_PAGE)))
    shown = fitting[(page - 1) * PER_PAGE : page * PER_PAGE]
    return Compared(kinds.most_common(), Listed(shown, len(fitting), page), only)


def train_differences(first: Index, second: Index, kind: str, page: int) -> Compared:
    """What became of each training prompt in both runs."""
    sql = "SELECT digest, place, prompt, state, answer FROM train ORDER BY place"
    others = {row[0]: row[1:] for row in second.query(sql)}
    rows: list[dict[str, Any]] = []
    mine = first.query(sql)
    for digest, place, prompt, state, answer in mine:
        if digest in others:
            place2, _, state2, answer2 = others[digest]
            row = {"prompt": prompt, "places": (place, place2), "states": (state, state2), "answers": (answer, answer2)}
            rows.append({**row, "kinds": [_train_kind(state, state2, answer == answer2)]})
    return _page(rows, kind, page, len({row[0] for row in mine} ^ others.keys()))


def _train_kind(first: str, second: str, same: bool) -> str:
    if UNDECIDED in (first, second):
        return UNDECIDED
    if first == second == "kept":
        return "kept in both, same answer" if same else "kept in both, another answer"
    if "kept" in (first, second):
        return "kept in the first only" if first == "kept" else "kept in the second only"
    return "discarded in both" if first == second else "discarded in both, another reason"


def test_differences(first: Index, second: Index, kind: str, page: int) -> Compared:
    """What each system that both runs have answered to the test prompts that both have."""
    sql = "SELECT digest, place, prompt, said FROM test ORDER BY place"
    others = {row[0]: row[1:] for row in second.query(sql)}
    rows: list[dict[str, Any]] = []
    mine = first.query(sql)
    for digest, place, prompt, text in mine:
        if digest not in others:
            continue
        place2, _, text2 = others[digest]
        said, said2 = json.loads(text), json.loads(text2)
        both = [name for name in first.systems if name in said and name in said2]
        pairs = [(system_name(name), said[name], said2[name]) for name in both]
        kinds = [f"{name} differs" for name, (a, _), (b, _) in pairs if a != b] or [BOTH if both else UNDECIDED]
        rows.append({"prompt": prompt, "places": (place, place2), "pairs": pairs, "kinds": kinds})
    return _page(rows, kind, page, len({row[0] for row in mine} ^ others.keys()))


def figures(first: Index, second: Index) -> list[tuple[str, str, str]]:
    """(what, the first run's, the second's), from what each run's report says."""
    reports = [read_json(index.opened.run.report) for index in (first, second)]
    states = [index.states() for index in (first, second)]
    a, b = (f"{s.get('kept', 0):,} of {sum(s.values()):,}" for s in states)
    rows = [("kept", a, b)]
    for name in ("verdict", "model", "technique"):
        a, b = (str(report.get(name) or "none") for report in reports)
        rows.append((name, a, b))
    names = dict.fromkeys((*MAIN, *(name for report in reports for name in part(report, "systems"))))
    for name in names:
        systems = [part(part(report, "systems"), name) for report in reports]
        for title, key, form in FIGURES:
            values = [num(system, key) for system in systems]
            if any(value is not None for value in values):
                rows.append((f"{system_name(name)}: {title}", form(values[0]), form(values[1])))
    return rows
