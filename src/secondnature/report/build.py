"""From a run folder to `report.json`: a reader of the store, which draws nothing."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from secondnature.adapters import current_adapters, is_seed, seed_name, training_summary
from secondnature.context import RunContext, run_async
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
from secondnature.files import to_json, write
from secondnature.report.advice import caveats, next_step
from secondnature.report.fields import system_name
from secondnature.report.page import render
from secondnature.report.show import before_and_after, shown_answers
from secondnature.report.shown import Page, ShownVote
from secondnature.report.votes import Tally, tally_votes
from secondnature.sampling import MissingCall
from secondnature.untrusted import plain


def build_report(context: RunContext) -> dict[str, Any]:
    """Write `report.json` and `report.html`; returns the content of the first."""
    votes: Tally | None = None
    measured, regression = Measured(context.resolved.held_out), None
    if context.run.state.get("model") is not None:
        model = context.offline()
        with contextlib.suppress(MissingCall):
            votes = run_async(tally_votes(context))
        if context.resolved.held_out:
            adapters = current_adapters(context) if votes is not None else {}
            measured = run_async(measure(context, model, adapters))
            regression = regression_report(context, model, adapters.get("distilled"))
    report = _report(context, votes, measured)
    report["regression"], report["contamination"] = regression, contamination_report(context, measured)
    report["caveats"] += caveats(report)
    report["next_step"] = next_step(report)
    write(context.run.report, to_json(report))
    write(context.run.page, render(_page(context, report, votes or Tally(), measured)))
    return report


def _page(context: RunContext, report: dict[str, Any], votes: Tally, measured: Measured) -> Page:
    chosen, examples = before_and_after(context, measured, report)
    return Page(
        report=report,
        chosen=chosen,
        examples=examples,
        votes=votes.votes,
        curated=_curated(votes),
        nearest=len(votes.nearest),
        tested=shown_answers(context, measured),
        shown_of=votes.prompts,
        tested_of=len(measured.rows),
        run=str(context.run.folder),
    )


def _curated(votes: Tally) -> list[ShownVote]:
    """The prompts nearest to the line, and evenly spread ones."""
    near = [vote for _, _, vote in votes.nearest]
    ids = {vote.id for vote in near}
    return [*near, *(vote for vote in votes.shown if vote.id not in ids)]


def _report(context: RunContext, votes: Tally | None, measured: Measured) -> dict[str, Any]:
    recipe, resolved = context.run.recipe, context.resolved
    rows = measured.rows
    gold = [None if row.label is None else resolved.kind.normalize(row.label) for row in rows]
    headline, prices = recipe.evaluate.headline, recipe.engine.prices
    systems = {
        name: {
            **describe_system(answers, rows, gold, measured.reference(name), headline, prices),
            **context.run.state.get("throughput", {}).get(name, {}),
            "stability": _stability(measured, name, headline),
        }
        for name, answers in measured.answers.items()
        if not is_seed(name)
    }
    for name in ("system1", "system2", "distilled", "control_unfiltered", "control_system1_self"):
        systems.setdefault(name, None)  # type: ignore[arg-type]
    found = _findings(context, votes, measured, gold)
    training = training_summary(context.run.adapter) if measured.answers.get("distilled") else {}
    took = context.run.state.get("seconds", {})
    return {
        "verdict": found.verdict,
        "reason": found.reason,
        "caveats": found.caveats,
        "model": recipe.model,
        "task": resolved.name,
        "technique": recipe.technique.name,
        "system1": recipe.system1.options,
        "part": recipe.evaluate.part,
        "headline": headline,
        "systems": systems,
        "agreement": _agreement(systems) if measured.again is not None else None,
        "tests": found.tests,
        "saving": found.saving,
        "power": found.power,
        "differences": _differences(measured, gold),
        "seeds": _seeds(context, measured, gold) or None,
        "curation": None if votes is None else {**votes.as_dict(), "seconds": took.get("sample", 0.0)},
        "training": training or None,
        "settings": {
            "n": recipe.sampling.n,
            "min_agreement": recipe.verify.min_agreement,
            "temperature": recipe.sampling.temperature,
            "top_p": recipe.sampling.top_p,
            "max_tokens": recipe.sampling.max_tokens,
            "margin": recipe.evaluate.margin,
            "limit": recipe.limit,
        },
        "seconds": took,
        "versions": context.run.state.get("versions"),
        "hardware": context.run.state.get("hardware"),
        "model_identity": context.run.state.get("model"),
        "source": resolved.source,
    }


def _stability(measured: Measured, name: str, headline: str | None) -> dict[str, Any] | None:
    """By perturbation, how often the system's answer changes with it."""
    chosen = members(measured.rows, headline)
    found = {
        change: described
        for change, systems in measured.changes.items()
        if name in systems and (described := describe_changes(systems[name], measured.rows, chosen))
    }
    return found or None


def _agreement(systems: Mapping[str, Any]) -> dict[str, float]:
    """Between what System 1 reaches untouched (floor) and what System 2 reaches with itself (ceiling)."""
    return {
        end: systems[name]["agreement_with_system2"] for end, name in (("floor", "system1"), ("ceiling", "system2"))
    }


PAIRS = (("system2", "system1"), ("distilled", "system1"), ("distilled", "system2"))


def _differences(measured: Measured, gold: Sequence[str | None]) -> list[dict[str, Any]]:
    """Paired differences of accuracy, slice by slice."""
    found: list[dict[str, Any]] = []
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
            found.append({"name": f"{first} - {second}", "slice": name, **difference(scores[0], scores[1], groups)})
    return found


def _findings(context: RunContext, votes: Tally | None, measured: Measured, gold: Sequence[str | None]) -> Findings:
    """The verdict of what there is: a run may be half finished."""
    if votes is None and "system2" not in measured.answers:
        return Findings("inconclusive", "Sampling is not finished.")
    recipe = context.run.recipe
    options, most = recipe.evaluate, recipe.sampling.max_tokens
    found = decide(measured, gold, options.headline, options.margin, most)
    if votes is None and found.verdict == "keep-system2":
        found.verdict = "inconclusive"
        found.reason = found.reason.replace("but nothing was distilled", "so there is something to distil") + (
            " Sampling is not finished."
        )
    if votes is not None and not votes.kept:
        reason, count = next(iter(votes.discarded.items()))
        found.reason = (
            f"Nothing was kept: {count} of {votes.prompts} prompts were discarded as {reason!r}. {found.reason}"
        )
    if options.part == "dev":
        found.caveats.append("These are dev prompts, on which settings are chosen: the test part is for the verdict.")
    seeds = _seeds(context, measured, gold)
    if (others := [s for s in seeds if s["verdict"] != found.verdict]) and len(seeds) > 1:
        said = Counter(str(s["verdict"]) for s in others)
        listed = ", ".join(f"{number} {verdict}" for verdict, number in said.items())
        found.caveats.append(f"Of {len(seeds)} training seeds {len(others)} would get another verdict: {listed}.")
    return found


def _seeds(context: RunContext, measured: Measured, gold: Sequence[str | None]) -> list[dict[str, Any]]:
    """`seeds` of report.json: the main run's first. Empty where no further ones were asked for."""
    train, options = context.run.recipe.train, context.run.recipe.evaluate
    names = {train.seed: "distilled", **{seed: seed_name(seed) for seed in train.seeds}}
    there = {seed: name for seed, name in names.items() if name in measured.answers}
    if len(there) < 2:
        return []
    chosen = members(measured.rows, options.headline)
    reference, groups = measured.answers["system2"].keys, [measured.rows[i].group for i in chosen]
    found: list[dict[str, Any]] = []
    for seed, name in there.items():
        keys = measured.answers[name].keys
        scores = describe_keys(keys, gold, reference, groups, chosen)
        most = context.run.recipe.sampling.max_tokens
        verdict = decide(measured, gold, options.headline, options.margin, most, name).verdict
        found.append({"seed": seed, **scores, "verdict": verdict})
    return found


def table(report: dict[str, Any], *, narrow: bool = False) -> Table:
    """The systems side by side, for a terminal; a narrow one leaves the last columns out."""
    title = plain(f"{report['task']}, headline: {report['headline'] or 'all test prompts'}")
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("", overflow="fold")
    columns = ("n", "accuracy [95%]", "= S2", "unread", "tokens", "prompt", "ms")[: 5 if narrow else None]
    for column in columns:
        shown.add_column(column, justify="right", no_wrap=True)
    for name, system in report["systems"].items():
        if system is None:
            continue
        interval = system["accuracy_ci"]
        figures = (
            str(system["n"]),
            f"{system['accuracy']:.3f} [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "no labels",
            "" if system["agreement_with_system2"] is None else f"{system['agreement_with_system2']:.3f}",
            f"{system['unparsable']:.0%}",
            f"{system['tokens_per_answer']:.1f}",
            f"{system['prompt_tokens_per_answer']:.1f}",
            "" if system["latency_ms_p50"] is None else f"{system['latency_ms_p50']:.0f}",
        )
        shown.add_row(plain(system_name(name, system)), *figures[: len(columns)])
    return shown
