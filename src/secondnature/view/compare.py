"""Two runs beside each other: the same training prompts, the same test prompts, and their figures."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from secondnature.report.texts import count, duration, percent
from secondnature.systems import SystemId
from secondnature.types import Row
from secondnature.view.run_view import KEPT, UNDECIDED, Listed, Prompt, RunView, page_of, snippet, text_of

BOTH = "the same in both"
FIGURES = (
    ("accuracy", "accuracy", percent),
    ("agreement with System 2", "agreement_with_system2", percent),
    ("tokens per answer", "tokens_per_answer", count),
    ("latency, median", "latency_ms_p50", duration),
)
Difference = tuple[int, int, list[str], Any]  # the prompt's place in each run, the kinds of difference, what differs


def compared(
    first: RunView, second: RunView, part_: str, kind: str, page: int
) -> tuple[Listed[tuple[int, int, list[str], Any, str]], list[tuple[str, int]], int]:
    """(a page of the prompts that both runs have, how many there are of each kind of difference, prompts of one run alone)."""
    rows = [view.resolved.held_out if part_ == "test" else view.resolved.train for view in (first, second)]
    others = {_digest(row): place for place, row in enumerate(rows[1])}
    differ = _test_difference(first, second) if part_ == "test" else _train_difference(first, second)
    found: list[Difference] = []
    number = 0
    for number, row in enumerate(rows[0], 1):
        if (other := others.get(_digest(row))) is not None:
            found.append((number - 1, other, *differ(number - 1, other)))
    kinds = Counter(name for _, _, names, _ in found for name in names)
    fitting = [row for row in found if kind not in kinds or kind in row[2]]  # a kind of the other part fits all
    listed = page_of(fitting, page)
    shown = [(*row, snippet(rows[0][row[0]].example.messages)) for row in listed.rows]
    only = number + len(others) - 2 * len(found)
    return Listed(shown, listed.total, listed.page), kinds.most_common(), only


def _digest(row: Row) -> bytes:
    return hashlib.sha256(text_of(row.example.messages).encode()).digest()[:16]


def _train_difference(first: RunView, second: RunView) -> Callable[[int, int], tuple[list[str], Any]]:
    mine, others = first.prompts(), second.prompts()

    def differ(place: int, other: int) -> tuple[list[str], tuple[Prompt, Prompt]]:
        a, b = mine[place], others[other]
        if UNDECIDED in (a.outcome, b.outcome):
            kind = UNDECIDED
        elif a.outcome == b.outcome == KEPT:
            kind = f"kept in both, {'same' if a.answer == b.answer else 'another'} answer"
        elif KEPT in (a.outcome, b.outcome):
            kind = f"kept in the {'first' if a.outcome == KEPT else 'second'} only"
        else:
            kind = "discarded in both" if a.outcome == b.outcome else "discarded in both, another reason"
        return [kind], (a, b)

    return differ


def _test_difference(first: RunView, second: RunView) -> Callable[[int, int], tuple[list[str], Any]]:
    mine, others = first.all_answers(), second.all_answers()

    def differ(place: int, other: int) -> tuple[list[str], list[tuple[str, Any, Any]]]:
        a, b = mine[place], others[other]
        both = [(SystemId.parse(name).caption, a[name], b[name]) for name in a if name in b]
        kinds = [f"{name} differs" for name, x, y in both if x[0] != y[0]]
        return kinds or [BOTH if both else UNDECIDED], both

    return differ


def figures(views: Sequence[RunView]) -> list[tuple[str, list[str]]]:
    """(what, each run's), from the votes and what each run's report says."""
    reports = [view.report() for view in views]
    outcomes = [view.outcomes() for view in views]
    rows = [("kept", [f"{found.get(KEPT, 0):,} of {sum(found.values()):,}" for found in outcomes])]
    for name in ("verdict", "model", "technique"):
        rows.append((name, [str(getattr(report, name, "none")) for report in reports]))
    measured = [{} if report is None else report.measured() for report in reports]
    for system in sorted({system for systems in measured for system in systems}, key=lambda system: system.order):
        for title, key, form in FIGURES:
            values = [getattr(systems.get(system), key, None) for systems in measured]
            if any(value is not None for value in values):
                rows.append((f"{system.caption}: {title}", [form(value) for value in values]))
    return rows
