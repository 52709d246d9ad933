"""The test prompts that are also in training, and the systems' figures without them."""

from collections import Counter
from collections.abc import Sequence

from secondnature.context import RunContext
from secondnature.evaluate.measure import Measured
from secondnature.evaluate.overlap import ORDER, Match, overlaps, text_of
from secondnature.evaluate.score import describe_keys, members
from secondnature.report.model import Contamination, Flagged, Without
from secondnature.systems import SystemId

SNIPPET = 200  # characters of a text in the report


def contamination_report(context: RunContext, measured: Measured) -> Contamination | None:
    """The report's part on test prompts of the headline that are in training; None where nothing was looked for."""
    options, rows = context.run.recipe.evaluate, measured.rows
    chosen = members(rows, options.headline)
    if not chosen or not options.contamination:
        return None
    found = overlaps([rows[i] for i in chosen], context.resolved.train)
    matches: dict[int, Match] = {chosen[k]: match for k, match in found.items()}
    kinds = Counter(match.kind for match in matches.values())
    return Contamination(
        n=len(chosen),
        flagged=len(matches),
        kinds={kind: kinds[kind] for kind in ORDER},
        rows=[
            Flagged(
                id=rows[i].example.id,
                kind=match.kind,
                train_id=match.source,
                score=round(match.score, 3),
                text=text_of(rows[i])[:SNIPPET],
                train_text=match.other[:SNIPPET],
            )
            for i, match in sorted(matches.items())
        ],
        without=_without(context, measured, [i for i in chosen if i not in matches]),
    )


def _without(context: RunContext, measured: Measured, kept: Sequence[int]) -> Without:
    """Each system's figures on the rows that are left."""
    key, rows = context.resolved.kind.normalize, measured.rows
    gold = [None if row.label is None else key(row.label) for row in rows]
    groups = [rows[i].group for i in kept]
    systems = {
        SystemId.parse(name): describe_keys(answers.keys, gold, measured.reference(name), groups, kept)
        for name, answers in (measured.answers.items() if kept else ())
    }
    return Without(n=len(kept), systems=systems)
