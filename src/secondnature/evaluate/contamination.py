"""The test prompts that were seen before, in training or by the base, and the systems' figures without them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from secondnature.context import RunContext, run_async
from secondnature.evaluate.known import Probed, ask_known
from secondnature.evaluate.measure import Measured
from secondnature.evaluate.overlap import ORDER, Match, overlaps, text_of
from secondnature.evaluate.score import describe_keys, members
from secondnature.sampling import MissingCall

SNIPPET = 200  # characters of a text in the report


def contamination_report(context: RunContext, measured: Measured) -> dict[str, Any] | None:
    """The report's part on test prompts of the headline that were seen before; None where nothing was looked for.

    Draws nothing: what the base knows is left out where it was not asked.
    """
    options, rows = context.run.recipe.evaluate, measured.rows
    chosen = members(rows, options.headline)
    if not chosen or not (options.contamination or options.known):
        return None
    matches: dict[int, Match] = {}
    if options.contamination:
        found = overlaps([rows[i] for i in chosen], context.resolved.train)
        matches = {chosen[k]: match for k, match in found.items()}
    probed = _probed(context) if options.known else None
    for i, match in (probed.matches if probed is not None else {}).items():
        matches.setdefault(i, match)
    kinds = Counter(match.kind for match in matches.values())
    return {
        "n": len(chosen),
        "flagged": len(matches),
        "kinds": {kind: kinds[kind] for kind in ORDER},
        "probed": None if probed is None else {"completed": probed.completed, "answered alone": probed.alone},
        "rows": [
            {
                "id": rows[i].example.id,
                "kind": match.kind,
                "with": match.source,
                "score": round(match.score, 3),
                "text": text_of(rows[i])[:SNIPPET],
                "other": match.other[:SNIPPET],
            }
            for i, match in sorted(matches.items())
        ],
        "without": _without(context, measured, [i for i in chosen if i not in matches]),
    }


def _probed(context: RunContext) -> Probed | None:
    if context.run.state.get("model") is None:
        return None
    try:
        return run_async(ask_known(context, context.offline()))
    except MissingCall:
        return None


def _without(context: RunContext, measured: Measured, kept: Sequence[int]) -> dict[str, Any]:
    """Each system's figures on the rows that are left."""
    key, rows = context.resolved.kind.normalize, measured.rows
    gold = [None if row.label is None else key(row.label) for row in rows]
    groups = [rows[i].group for i in kept]
    figures = {
        name: describe_keys(answers.keys, gold, measured.reference(name), groups, kept)
        for name, answers in (measured.answers.items() if kept else ())
    }
    wanted = ("accuracy", "accuracy_ci", "agreement_with_system2")
    systems = {name: {key: found[key] for key in wanted} for name, found in figures.items()}
    return {"n": len(kept), "systems": systems}
