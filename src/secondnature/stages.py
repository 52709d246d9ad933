"""`distill()`: the whole method, top to bottom, and its five stages, each a function of the run folder.

Sampling, verifying, evaluating and reporting keep no state: run again, they find every call in the store. Training writes an
adapter, which has a digest of what it was made from beside it.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Concatenate, ParamSpec

from secondnature.adapters import check_base, current_adapters, seed_name, track_report, train_adapter, train_controls
from secondnature.context import RunContext, open_context, run_async
from secondnature.curate import vote_on, write_curation_files
from secondnature.curated import accept_edits, current, stored, training_examples, unedited
from secondnature.evaluate.measure import measure
from secondnature.evaluate.regression import measure_regression
from secondnature.first_look import Look, check_parsable
from secondnature.first_look import look as look_at
from secondnature.progress import STEPS, Display
from secondnature.recipe import Recipe
from secondnature.recipe_file import load_recipe
from secondnature.report.advice import told
from secondnature.report.build import build_report, table
from secondnature.run import open_run
from secondnature.sampling import Model, System, draw
from secondnature.trust import missing, remember
from secondnature.types import Example
from secondnature.use import LoadedRun, load
from secondnature.user_code import is_user_code

Options = ParamSpec("Options")


def distill(
    recipe: str | Path | Recipe,
    out: str | Path,
    *,
    limit: int | None = None,
    sets: Sequence[str] = (),
    quiet: bool = False,
    anyway: bool = False,
    trust: bool = False,
) -> LoadedRun:
    """Distil System 2 into System 1 (Yu et al., 2024, arXiv 2407.06023): the whole method on one recipe.

    Samples the technique over unlabelled prompts, keeps the answers that the model agrees with itself about, fine-tunes the
    same model to give them directly, measures, and reports.

    `recipe` is a file or a Recipe; `sets` overrides keys of a file ("train.learning_rate=1e-4"), and `limit` cuts train, dev
    and test to that many prompts each. `out` is the run folder: the same call on it resumes. `quiet` hides the progress.
    `anyway` goes on where most of the first answers are unparsable. `trust` allows the Python files that the recipe names to
    run, and keys to be sent where it says; that is remembered.

    Returns what `load(out)` does. Raises UserError for input that cannot be used.
    """
    resolved = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe), sets, limit)
    if trust:
        remember(missing(resolved))
    display = Display(quiet=quiet, steps=STEPS)
    with open_run(Path(out), resolved, display.say) as run, open_context(run, display) as context:
        sample(context, anyway=anyway)
        verify(context, keep_edited=True)
        train(context)
        evaluate(context)
        report(context)
    return load(out)


def look(
    recipe: str | Path | Recipe,
    out: str | Path,
    *,
    sets: Sequence[str] = (),
    quiet: bool = False,
    trust: bool = False,
) -> Look:
    """A first look at a recipe on 32 training prompts: are answers parsable, is System 2 better, what to change.

    `out` is the run folder, where `distill` finds the calls again. `sets`, `quiet` and `trust` are those of `distill`.
    Returns a Look, which prints as a summary. Raises UserError for input that cannot be used.
    """
    resolved = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe), sets)
    if trust:
        remember(missing(resolved))
    display = Display(quiet=quiet)
    with open_run(Path(out), resolved, display.say) as run, open_context(run, display) as context:
        return look_at(context)


def _shown(stage: Callable[Concatenate[RunContext, Options], None]) -> Callable[Concatenate[RunContext, Options], None]:
    """The stage with its live view; once it is done, the recipe becomes the folder's own."""

    @functools.wraps(stage)
    def shown(context: RunContext, /, *args: Options.args, **options: Options.kwargs) -> None:
        with context.display.step(stage.__name__):
            stage(context, *args, **options)
        context.run.save_recipe()

    return shown


async def _try_user_code(context: RunContext, model: Model, system2: System, example: Example) -> None:
    """Run the user's own techniques on one prompt first, so that their errors show at once. The run reuses the calls."""
    recipe, resolved = context.run.recipe, context.resolved
    tried = [(system2, example)] if is_user_code(recipe.technique.name) else []
    for row in resolved.held_out[:1]:
        own = [name for name, choice in recipe.evaluate.baselines.items() if is_user_code(choice.name)]
        tried += [(resolved.baselines[name].greedy(), row.example) for name in own]
    for system, asked in tried:
        await draw(model, system, asked, 0, resolved.kind)


@_shown
def sample(context: RunContext, *, anyway: bool = True) -> None:
    """Draw System 2's samples of every training prompt into the store.

    Unless `anyway`, raises UserError where most of the first answers cannot be read.
    """
    check_base(context.run.recipe)
    model = context.online()
    technique = replace(context.resolved.system2, logprobs=context.resolved.verifier.weighted)
    run_async(_try_user_code(context, model, technique, context.resolved.train[0].example))
    if not anyway:
        check_parsable(context)

    async def draw_all() -> None:
        async for _ in vote_on(context, model, context.resolved.system2, "sample System 2"):
            pass  # the store has it

    with context.timed("sample"):
        run_async(draw_all())


@_shown
def verify(context: RunContext, *, keep_edited: bool = False) -> None:
    """Write `curated.jsonl` and `discarded.jsonl`: a function of the store, with no label in sight.

    With `keep_edited`, a `curated.jsonl` that was edited, and that `train` accepted, stays as long as it belongs to the recipe.
    """
    if keep_edited and (found := stored(context.run)) is not None and found.edited and unedited(context.run, found):
        context.display.say(
            f"verify: {context.run.curated} was edited and stays: `secondnature verify {context.run.folder}` writes it anew"
        )
        return
    curation = write_curation_files(context)
    context.display.say(
        f"verify: {curation.kept} of {curation.prompts} prompts kept; their answers are self-consistent, which is not to say true"
    )


@_shown
def train(context: RunContext, *, edited: bool = False) -> None:
    """Fine-tune an adapter on the kept answers, unless the one in the folder was made from just these.

    With `edited`, a `curated.jsonl` that was edited by hand becomes the run's training set.
    """
    if edited:
        accept_edits(context)
    curation = current(context)
    examples = list(training_examples(context.run))
    if not examples:
        context.display.say("train: nothing was kept, so there is nothing to train on")
        return
    train_adapter(context, examples, curation.examples, context.run.adapter, "train")
    for seed in context.run.recipe.train.seeds:
        folder, title = context.run.folder / seed_name(seed), f"train, seed {seed}"
        train_adapter(context, examples, curation.examples, folder, title, seed=seed)
    if context.run.recipe.evaluate.controls:
        train_controls(context, curation)


@_shown
def evaluate(context: RunContext) -> None:
    """Draw every system's answers to the test prompts into the store."""
    if not context.resolved.held_out:
        context.display.say("evaluate: there are no test prompts")
        return
    adapters = current_adapters(context)  # first: replies of another model are refused before anything is drawn
    model = context.online()
    for adapter in adapters.values():
        context.engine.load_adapter(adapter.name, str(adapter.folder))
    with context.timed("evaluate"):
        run_async(
            _try_user_code(context, model, context.resolved.system2.greedy(), context.resolved.held_out[0].example)
        )
        run_async(measure(context, model, adapters))
    if "distilled" in adapters:
        with context.timed("regression"):
            measure_regression(context, adapters["distilled"])  # last: it releases the engine


def report(context: RunContext) -> None:
    """Write `report.json` and `report.html` from what is there, also of a half-finished run, and print the table."""
    with context.display.step("report"):
        content = build_report(context)
        track_report(context, content)
    context.display.result(table(content, narrow=context.display.narrow), told(content, context.run.page))
