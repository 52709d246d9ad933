"""Stability: how often an answer changes with a change of the prompt that must not change it.

For a judge whose two answers are swapped that is its position bias (Yu et al., 2024, arXiv 2407.06023, "% inconsistent").
"""

from collections.abc import Sequence

from secondnature.context import RunContext
from secondnature.evaluate.score import rounded
from secondnature.evaluate.statistics import mean_interval
from secondnature.perturb import Perturbation
from secondnature.report.model import Stability
from secondnature.sampling import Model, RecordedAsk, System, draw, in_order
from secondnature.types import Row, Sample
from secondnature.verifier import extract_back, vary

Changes = list[
    float | None
]  # one a row: 1.0 where the answer changed or cannot be read, None where the prompt cannot be


async def measure_changes(
    context: RunContext, model: Model, system: System, samples: Sequence[Sample], name: str, perturb: Perturbation
) -> Changes:
    """Ask `system` each test prompt changed by `perturb`; `samples` are its answers to the prompts as they are."""
    kind, rows = context.resolved.kind, context.resolved.held_out

    async def changed(pair: tuple[Row, Sample]) -> float | None:
        row, sample = pair
        ask = RecordedAsk(model, context.resolved.system2.greedy(), 0, row.example.id)
        variant = await vary(ask, row.example, name, perturb)
        if variant is None:
            bar.advance()
            return None
        again = await draw(model, system, variant.example, 0, extract_back(kind, variant))
        bar.advance()
        if sample.answer is None or again.answer is None:
            return 1.0
        return float(kind.normalize(sample.answer) != kind.normalize(again.answer))

    with context.stage(f"evaluate prompts changed by {name}", len(rows), model) as bar:
        pairs = zip(rows, samples, strict=True)
        return [change async for change in in_order(pairs, changed, model.width)]


def describe_changes(changes: Changes, rows: Sequence[Row], chosen: Sequence[int]) -> Stability | None:
    """`n`, the share `changed`, its interval: of the chosen rows that could be changed. None where there are none."""
    places = [i for i in chosen if changes[i] is not None]
    values = [value for i in places if (value := changes[i]) is not None]
    if not values:
        return None
    interval = mean_interval(values, [rows[i].group for i in places])
    return Stability(n=len(values), changed=round(sum(values) / len(values), 4), changed_ci=rounded(interval))
