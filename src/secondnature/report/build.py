"""From a run folder to `report.json`: a reader of the store, which draws nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from rich import box
from rich.table import Table

from secondnature.adapters import current_adapters, is_seed, seed_name, training_summary
from secondnature.context import RunContext, run_async
from secondnature.curated import current
from secondnature.evaluate.contamination import contamination_report
from secondnature.evaluate.decide import Findings, decide
from secondnature.evaluate.measure import Measured, measure
from secondnature.evaluate.regression import regression_report
from secondnature.evaluate.score import (
    correct,
    describe_keys,
    describe_system,
    difference,
    members,
    slice_names,
)
from secondnature.evaluate.stability import describe_changes
from secondnature.files import write
from secondnature.report.advice import caveats, next_step
from secondnature.report.model import (
    Agreement,
    Caveat,
    Curation,
    Difference,
    Report,
    Seed,
    Settings,
    Stability,
    SystemFigures,
    Training,
    write_report,
)
from secondnature.report.page import render
from secondnature.report.show import before_and_after, shown_answers
from secondnature.report.shown import Page
from secondnature.report.votes import Tally, tally_votes
from secondnature.systems import EXPECTED, SYSTEM1, SYSTEM2, SystemId
from secondnature.types import UserError
from secondnature.untrusted import plain


def build_report(context: RunContext) -> Report:
    """Write `report.json` and `report.html`; returns the content of the first."""
    votes: Tally | None = None
    measured, regression = Measured(context.resolved.held_out), None
    if context.run.state.get("model") is not None:
        model = context.offline()
        try:
            votes = tally_votes(context, current(context))
        except UserError as error:  # the run may be half finished, or the votes be an older recipe's
            context.display.say(f"report: {error}")
        if context.resolved.held_out:
            adapters = current_adapters(context) if votes is not None else {}
            measured = run_async(measure(context, model, adapters))
            regression = regression_report(context, model, adapters.get("distilled"))
    report = _report(context, votes, measured)
    report = report.model_copy(
        update={"regression": regression, "contamination": contamination_report(context, measured)}
    )
    report = report.model_copy(update={"caveats": [*report.caveats, *caveats(report)]})
    report = report.model_copy(update={"next_step": next_step(report)})
    write_report(context.run.report, report)
    write(context.run.page, render(_page(context, report, votes, measured)))
    return report


def _page(context: RunContext, report: Report, votes: Tally | None, measured: Measured) -> Page:
    chosen, examples = before_and_after(context, measured, report)
    return Page(
        report=report,
        chosen=chosen,
        examples=examples,
        votes=votes.votes if votes else {},
        curated=votes.shown if votes else [],
        nearest=votes.nearest if votes else 0,
        tested=shown_answers(context, measured),
        shown_of=votes.curation.prompts if votes else 0,
        tested_of=len(measured.rows),
        run=str(context.run.folder),
    )


def _report(context: RunContext, votes: Tally | None, measured: Measured) -> Report:
    recipe, resolved, state = context.run.recipe, context.resolved, context.run.state
    rows = measured.rows
    gold = [None if row.label is None else resolved.kind.normalize(row.label) for row in rows]
    headline, prices = recipe.evaluate.headline, recipe.engine.prices
    systems: dict[SystemId, SystemFigures | None] = {
        SystemId.parse(name): describe_system(
            answers,
            rows,
            gold,
            measured.reference(name),
            headline,
            prices,
            throughput=state.get("throughput", {}).get(name),
            stability=_stability(measured, name, headline),
        )
        for name, answers in measured.answers.items()
        if not is_seed(name)
    }
    for system in EXPECTED:
        systems.setdefault(system, None)
    found = _findings(context, votes, measured, gold)
    training = training_summary(context.run.adapter) if measured.answers.get("distilled") else {}
    took = state.get("seconds", {})
    return Report(
        verdict=found.verdict,
        reason=found.reason,
        caveats=found.caveats,
        model=recipe.model,
        task=resolved.name,
        technique=recipe.technique.name,
        system1=recipe.system1.options,
        part=recipe.evaluate.part,
        headline=headline,
        systems=systems,
        agreement=_agreement(systems) if measured.again is not None else None,
        tests=found.tests,
        constant=found.constant,
        saving=found.saving,
        power=found.power,
        differences=_differences(measured, gold),
        seeds=_seeds(context, measured, gold) or None,
        curation=None if votes is None else Curation(**votes.as_dict(), seconds=took.get("sample", 0.0)),
        training=_training(context) if training else None,
        settings=Settings(
            n=recipe.sampling.n,
            min_agreement=recipe.verify.min_agreement,
            temperature=recipe.sampling.temperature,
            top_p=recipe.sampling.top_p,
            max_tokens=recipe.sampling.max_tokens,
            margin=recipe.evaluate.margin,
            limit=recipe.limit,
        ),
        seconds=took,
        versions=state.get("versions"),
        hardware=state.get("hardware"),
        model_identity=state.get("model"),
        source=resolved.source,
    )


def _training(context: RunContext) -> Training:
    adapter = context.run.adapter
    try:
        return Training.model_validate(training_summary(adapter))
    except ValidationError as error:
        raise UserError(
            f"{adapter / 'training.json'}: holds something else than training wrote ({error.errors()[0]['msg']}): remove "
            f"{adapter}, and `secondnature train` makes it anew"
        ) from None


def _stability(measured: Measured, name: str, headline: str | None) -> dict[str, Stability]:
    """By perturbation, how often the system's answer changes with it."""
    chosen = members(measured.rows, headline)
    return {
        change: described
        for change, systems in measured.changes.items()
        if name in systems and (described := describe_changes(systems[name], measured.rows, chosen))
    }


def _agreement(systems: Mapping[SystemId, SystemFigures | None]) -> Agreement:
    """Between what System 1 reaches untouched (floor) and what System 2 reaches with itself (ceiling)."""
    floor, ceiling = (figures and figures.agreement_with_system2 for figures in map(systems.get, (SYSTEM1, SYSTEM2)))
    return Agreement(floor=floor, ceiling=ceiling)


PAIRS = (("system2", "system1"), ("distilled", "system1"), ("distilled", "system2"))


def _differences(measured: Measured, gold: Sequence[str | None]) -> list[Difference]:
    """Paired differences of accuracy, slice by slice."""
    found: list[Difference] = []
    pairs = [
        *PAIRS,
        *(
            ("distilled", name)
            for name in measured.answers
            if name.startswith(("baseline", "control", "system1_voted"))
        ),
    ]
    for first, second in pairs:
        if first not in measured.answers or second not in measured.answers:
            continue
        for name in [None, *slice_names(measured.rows)]:
            chosen = members(measured.rows, name)
            scores = [
                correct([measured.answers[s].keys[i] for i in chosen], [gold[i] for i in chosen])
                for s in (first, second)
            ]
            if scores[0] is None or scores[1] is None:
                continue
            groups = [measured.rows[i].group for i in chosen]
            value, ci = difference(scores[0], scores[1], groups)
            sides = SystemId.parse(first), SystemId.parse(second)
            found.append(Difference(first=sides[0], second=sides[1], slice=name, difference=value, ci=ci))
    return found


def _findings(context: RunContext, votes: Tally | None, measured: Measured, gold: Sequence[str | None]) -> Findings:
    """The verdict of what there is: a run may be half finished."""
    if votes is None and "system2" not in measured.answers:
        return Findings("inconclusive", "The votes are not counted yet.")
    recipe = context.run.recipe
    options, most = recipe.evaluate, recipe.sampling.max_tokens
    found = decide(measured, gold, options.headline, options.margin, most)
    if votes is None and found.verdict == "keep-system2":
        found.verdict = "inconclusive"
        found.reason = found.reason.replace("but nothing was distilled", "so there is something to distil") + (
            " The votes are not counted yet."
        )
    if votes is not None and not votes.kept:
        prompts = votes.curation.prompts
        reason, count = next(iter(votes.curation.discarded.items()), ("edited", prompts))
        found.reason = f"Nothing was kept: {count} of {prompts} prompts were discarded as {reason!r}. {found.reason}"
    if votes is not None and votes.curation.edited:
        found.caveats.append(Caveat(kind="edited", text="The training set was edited by hand after the votes."))
    if options.part == "dev":
        text = "These are dev prompts, on which settings are chosen: the test part is for the verdict."
        found.caveats.append(Caveat(kind="dev-part", text=text))
    seeds = _seeds(context, measured, gold)
    if (others := [s for s in seeds if s.verdict != found.verdict]) and len(seeds) > 1:
        said = Counter(s.verdict for s in others)
        listed = ", ".join(f"{number} {verdict}" for verdict, number in said.items())
        text = f"Of {len(seeds)} training seeds {len(others)} would get another verdict: {listed}."
        found.caveats.append(Caveat(kind="seeds", text=text))
    return found


def _seeds(context: RunContext, measured: Measured, gold: Sequence[str | None]) -> list[Seed]:
    """`seeds` of report.json: the main run's first. Empty where no further ones were asked for."""
    train, options = context.run.recipe.train, context.run.recipe.evaluate
    names = {train.seed: "distilled", **{seed: seed_name(seed) for seed in train.seeds}}
    there = {seed: name for seed, name in names.items() if name in measured.answers}
    if len(there) < 2:
        return []
    chosen = members(measured.rows, options.headline)
    reference, groups = measured.answers["system2"].keys, [measured.rows[i].group for i in chosen]
    found: list[Seed] = []
    for seed, name in there.items():
        keys = measured.answers[name].keys
        scores = describe_keys(keys, gold, reference, groups, chosen)
        most = context.run.recipe.sampling.max_tokens
        verdict = decide(measured, gold, options.headline, options.margin, most, name).verdict
        found.append(Seed(seed=seed, verdict=verdict, **scores.model_dump()))
    return found


def table(report: Report, *, narrow: bool = False) -> Table:
    """The systems side by side, for a terminal; a narrow one leaves the last columns out."""
    title = plain(f"{report.task}, headline: {report.headline or 'all test prompts'}")
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("", overflow="fold")
    columns = ("n", "accuracy [95%]", "= S2", "unread", "tokens", "prompt", "ms")[: 5 if narrow else None]
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    for system, figures in report.measured().items():
        interval, agreement, latency = figures.accuracy_ci, figures.agreement_with_system2, figures.latency_ms_p50
        cells = (
            str(figures.n),
            "no labels" if interval is None else f"{figures.accuracy:.3f} [{interval[0]:.2f}, {interval[1]:.2f}]",
            "" if agreement is None else f"{agreement:.3f}",
            f"{figures.unparsable:.0%}",
            f"{figures.tokens_per_answer:.1f}",
            f"{figures.prompt_tokens_per_answer:.1f}",
            "" if latency is None else f"{latency:.0f}",
        )
        shown.add_row(plain(figures.caption(system)), *cells[: len(columns)])
    return shown
