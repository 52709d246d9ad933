"""A first look before a run is paid for: are answers parsable, is System 2 better, what would be kept, what to change."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from rich import box
from rich.table import Table

from secondnature.context import RunContext, run_async
from secondnature.curate import final_text, shortened
from secondnature.evaluate.score import rounded
from secondnature.evaluate.statistics import groups_needed, mean_interval
from secondnature.files import read_json, to_json, write
from secondnature.plan import Cost, plan
from secondnature.sampling import System, draw, in_order
from secondnature.techniques import option_value
from secondnature.types import Row, Sample, UserError
from secondnature.untrusted import plain
from secondnature.user_code import is_user_code
from secondnature.vote import chance_of_keeping

PROMPTS, SAMPLES = 32, 2
MOST_UNPARSABLE = 0.5  # share of System 2's answers beyond which `distill` stops
MANY_UNPARSABLE = 0.05  # share beyond which there is advice
ONE_ANSWER = 0.8  # share of samples with the same answer beyond which the prompts may not matter
SHORT = 20  # tokens, of an answer without reasoning
FEW_EXAMPLES = 30  # to train on
REPLY = 200  # characters of an unparsable reply that are shown
SHOWN = 3  # of them


@dataclass(frozen=True)
class SystemLook:
    """One system on the prompts of the look. All but `samples` and `replies` are shares of samples, or means per sample.

    `repeats` is the share of prompts whose samples all gave the same answer, `commonest` that of the most frequent answer.
    `replies` are the most frequent unparsable ones, with their counts.
    """

    samples: int
    unparsable: float
    truncated: float
    accuracy: float | None
    accuracy_ci: tuple[float, float] | None
    repeats: float
    commonest: float
    tokens: float
    prompt_tokens: float
    calls: float
    replies: list[tuple[str, int]]


@dataclass(frozen=True)
class Look:
    """What a look found.

    `kept` is the expected share of training prompts, `groups` the test part's independent groups, `groups_needed` how many a
    verdict of ship takes, `rate` the tokens per second of calls made now. `advice` has a line for each problem.
    """

    prompts: int
    of: int
    system1: SystemLook
    system2: SystemLook
    kept: float
    groups: int
    groups_needed: int | None
    rate: float | None
    plan: dict[str, str]
    advice: list[str]

    @property
    def title(self) -> str:
        number = self.system2.samples // self.prompts
        return (
            f"{self.prompts} of {self.of} training prompts, {number} sample{'s' if number > 1 else ''} of each system"
        )

    def __str__(self) -> str:
        lines = [f"look: {self.title}"]
        for name, system in (("System 1", self.system1), ("System 2", self.system2)):
            accuracy = "" if system.accuracy is None else f"accuracy {system.accuracy:.2f}, "
            lines.append(
                f"  {name}: {1 - system.unparsable - system.truncated:.0%} readable, {accuracy}same answer twice "
                f"{system.repeats:.0%}, {system.tokens:.0f} tokens"
            )
        return "\n".join([*lines, f"  to be kept: about {self.kept:.0%}", *(f"  - {line}" for line in self.advice)])


def look(context: RunContext) -> Look:
    """Draw SAMPLES samples of System 1 and of System 2 for PROMPTS training prompts and say what they tell.

    Every call is stored, and the run uses System 2's again. Writes `look.json`.
    """
    rows, model = _rows(context), context.online()
    started, before = time.monotonic(), model.drawn.completion_tokens
    slow = _samples(context, context.resolved.system2, rows, "look at System 2")
    fast = _samples(context, context.resolved.system1, rows, "look at System 1")
    tokens = model.drawn.completion_tokens - before
    rate = tokens / (time.monotonic() - started) if tokens else read_json(context.run.look, "remove it").get("rate")
    system1, system2 = (_summary(context, rows, samples) for samples in (fast, slow))
    cost = Cost(system2.calls, system2.tokens, system2.prompt_tokens, rate, f"a look at {len(rows)} prompts")
    found = Look(
        prompts=len(rows),
        of=len(context.resolved.train),
        system1=system1,
        system2=system2,
        kept=_kept(context, slow),
        groups=len({row.group for row in context.resolved.held_out}),
        groups_needed=groups_needed(context.run.recipe.evaluate.margin),
        rate=rate,
        plan=dict(plan(context.run.recipe, context.resolved, cost)),
        advice=[],
    )
    found = replace(found, advice=_advice(context, found))
    write(context.run.look, to_json(asdict(found)))
    return found


def check_parsable(context: RunContext) -> None:
    """Raises UserError where more than half of System 2's answers to the prompts of a look are unparsable or truncated."""
    rows = _rows(context)
    samples = _samples(context, context.resolved.system2, rows, "check System 2's answers")
    system2 = _summary(context, rows, samples)
    if system2.unparsable + system2.truncated <= MOST_UNPARSABLE:
        return
    said = f", such as {system2.replies[0][0]!r}" if system2.replies else ""
    raise UserError(
        f"{system2.unparsable + system2.truncated:.0%} of System 2's first {system2.samples} answers cannot be read as "
        f"{context.resolved.kind.name}{said}: {_fix(context, system2)}. `secondnature look` shows more; --anyway goes on"
    )


def look_table(found: Look) -> Table:
    """The two systems side by side, for a terminal."""
    title = f"A look at {found.title}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for column in ("readable", "truncated", "accuracy [95%]", "same answer twice", "tokens", "calls"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, system in (("System 1", found.system1), ("System 2", found.system2)):
        ci = system.accuracy_ci
        table.add_row(
            name,
            f"{1 - system.unparsable - system.truncated:.0%}",
            f"{system.truncated:.0%}",
            "no labels" if ci is None else f"{system.accuracy:.2f} [{ci[0]:.2f}, {ci[1]:.2f}]",
            f"{system.repeats:.0%}" if system.samples > found.prompts else "",
            f"{system.tokens:.1f}",
            f"{system.calls:.1f}",
        )
    return table


def look_lines(found: Look) -> list[str]:
    """What is printed below the table: unparsable replies, what to expect of the run, advice."""
    lines: list[str] = []
    for name, system in (("System 1", found.system1), ("System 2", found.system2)):
        if system.replies:
            lines.append(f"{name}, replies that no answer can be read in:")
            lines += [f"  {number} x {plain(text)!r}" for text, number in system.replies]
    lines.append("To expect of a run:")
    kept = ("kept", f"about {found.kept * found.of:,.0f} of {found.of:,} prompts")
    lines += [f"  {name:<14} {figures}" for name, figures in (kept, *found.plan.items())]
    needed = "" if found.groups_needed is None else f", of which a verdict of ship takes at least {found.groups_needed}"
    lines.append(f"  {'test':<14} {found.groups:,} independent groups{needed}")
    if found.advice:
        lines += ["Advice:", *(f"  - {plain(line)}" for line in found.advice)]
    return lines


def _rows(context: RunContext) -> list[Row]:
    """A random choice of training prompts, always the same one: a file may have a pattern in its order."""
    train = context.resolved.train
    places = random.Random(0).sample(range(len(train)), min(PROMPTS, len(train)))
    return [train[i] for i in sorted(places)]


def _samples(context: RunContext, system: System, rows: Sequence[Row], title: str) -> list[list[Sample]]:
    """The first samples of each prompt; the run reuses System 2's."""
    model, kind = context.online(), context.resolved.kind
    system = replace(system, logprobs=context.resolved.verifier.weighted)
    number = min(SAMPLES, context.run.recipe.sampling.n)

    async def drawn() -> list[Sample]:
        jobs = [(row, i) for row in rows for i in range(number)]

        async def one(job: tuple[Row, int]) -> Sample:
            sample = await draw(model, system, job[0].example, job[1], kind)
            bar.advance()
            return sample

        with context.stage(title, len(jobs), model) as bar:
            return [sample async for sample in in_order(jobs, one, model.width)]

    samples = run_async(drawn())
    return [samples[i : i + number] for i in range(0, len(samples), number)]


def _summary(context: RunContext, rows: Sequence[Row], samples: Sequence[Sequence[Sample]]) -> SystemLook:
    kind = context.resolved.kind
    every = [sample for some in samples for sample in some]
    keys = [[None if s.answer is None else kind.normalize(s.answer) for s in some] for some in samples]
    accuracy, ci = None, None
    if all(row.label is not None for row in rows):
        gold = [kind.normalize(row.label) for row in rows if row.label is not None]
        right = [sum(key == label for key in some) / len(some) for some, label in zip(keys, gold, strict=True)]
        accuracy = round(sum(right) / len(right), 4)
        ci = rounded(mean_interval(right, [row.group for row in rows]))
    given = Counter(key for some in keys for key in some if key is not None)
    unread = Counter(" ".join(shortened(final_text(s), REPLY).split()) for s in every if s.failure == "unparsable")

    def mean(values: Sequence[float]) -> float:
        return round(sum(values) / len(values), 4)

    return SystemLook(
        samples=len(every),
        unparsable=mean([s.failure == "unparsable" for s in every]),
        truncated=mean([s.failure == "truncated" for s in every]),
        accuracy=accuracy,
        accuracy_ci=ci,
        repeats=mean([None not in some and len(set(some)) == 1 for some in keys]),
        commonest=given.most_common(1)[0][1] / len(every) if given else 0.0,
        tokens=mean([s.completion_tokens for s in every]),
        prompt_tokens=mean([s.prompt_tokens for s in every]),
        calls=mean([len(s.trace) for s in every]),
        replies=unread.most_common(SHOWN),
    )


def _kept(context: RunContext, samples: Sequence[Sequence[Sample]]) -> float:
    """The share of prompts to expect in the training set: each one's chance, given its first samples."""
    verifier = context.resolved.verifier
    return round(sum(chance_of_keeping(verifier.ballots(s), verifier.rule) for s in samples) / len(samples), 4)


def _fix(context: RunContext, system2: SystemLook) -> str:
    """What to change in the recipe so that System 2's answers are parsable."""
    recipe = context.run.recipe
    if system2.truncated >= system2.unparsable:
        return f"most are truncated: set sampling.max_tokens to more than {recipe.sampling.max_tokens}"
    form = context.resolved.kind.formed(context.resolved.train[0].example).form
    asked = f'say in the prompt how the answer should look, such as "The answer is:" followed by {form}'
    if is_user_code(recipe.technique.name):
        return f"{asked}; in the technique's file {{form}} is `example.form`, and `secondnature.conclude` extracts the answer"
    prompts = [name for name, value in recipe.technique.options.items() if isinstance(value, str) and "{" in value]
    if prompts and not any("{form}" in str(recipe.technique.options[name]) for name in prompts):
        return f"put {{form}} into technique.{prompts[0]}, which says how the answer should look ({form})"
    if option_value(context.resolved.system2.technique, "extract") == "never":
        return "leave out technique.extract: never, so that one more call extracts the answer"
    if "demonstrations" in recipe.technique.options:
        return f"let the worked examples of technique.demonstrations end with {form}"
    return (
        "see whether answer.kind is what the prompts ask for; a small model may need worked examples "
        "(technique.demonstrations), or a larger one is needed"
    )


def _advice(context: RunContext, found: Look) -> list[str]:
    """A line for each problem, with the key of the recipe to change."""
    recipe, one, two = context.run.recipe, found.system1, found.system2
    lines: list[str] = []
    failing = two.unparsable + two.truncated
    if failing > MANY_UNPARSABLE:
        lines.append(f"{failing:.0%} of System 2's answers cannot be read: {_fix(context, two)}.")
    instruction = 'system1: {instruction: "Reply with {form} and nothing else."}'
    if 2 * one.tokens >= two.tokens and one.tokens > SHORT and not recipe.system1.instruction:
        lines.append(
            f"System 1 spends {one.tokens:.0f} tokens, System 2 {two.tokens:.0f}: the model reasons by itself. To compare with "
            f"a fast answer set {instruction}."
        )
    elif one.unparsable + one.truncated > 1 / 5 and not recipe.system1.instruction:
        lines.append(
            f"{one.unparsable + one.truncated:.0%} of System 1's answers cannot be read and count as wrong, so part of a gain "
            f"would be form. To ask it for the form too set {instruction}."
        )
    if two.commonest > ONE_ANSWER and two.samples > SAMPLES:
        lines.append(
            f"{two.commonest:.0%} of System 2's answers are the same one: look whether the prompts differ in what they ask."
        )
    if one.accuracy is None or two.accuracy is None:
        lines.append(
            "There are no labels: whether System 2 is better cannot be seen. A few dozen labelled rows would tell."
        )
    elif two.accuracy <= one.accuracy and failing <= MANY_UNPARSABLE:
        lines.append(
            f"System 2 is not more often right here ({two.accuracy:.2f}, System 1 {one.accuracy:.2f}): try another technique or "
            f"prompt, or a larger model. {found.prompts} prompts cannot rule out a difference, but there may be nothing to win "
            "but tokens."
        )
    if found.kept * found.of < FEW_EXAMPLES and failing <= MOST_UNPARSABLE:
        lines.append(
            f"About {found.kept * found.of:.0f} examples would be kept: give more training prompts (data.train), or lower "
            f"verify.min_agreement (now {recipe.verify.min_agreement:g})."
        )
    if found.groups_needed is not None and found.groups < found.groups_needed:
        lines.append(
            f"The {recipe.evaluate.part} part has {found.groups} independent groups, and a verdict of ship takes at least "
            f"{found.groups_needed} at a margin of {recipe.evaluate.margin:g}: give more {recipe.evaluate.part} prompts "
            f"(data.{recipe.evaluate.part}), or raise evaluate.margin."
        )
    return lines
