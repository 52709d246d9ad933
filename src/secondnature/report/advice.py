"""What follows from a report: what to mind, and what to do next. Both are functions of the report alone."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from secondnature.evaluate.verdict import REPEATS, UNPARSABLE
from secondnature.report.model import Caveat, Report, Settings
from secondnature.systems import DISTILLED, SYSTEM2

MOVED, LENGTHS = 0.1, 0.25  # nats a token, and the share by which answers got longer or shorter, that are worth a word
FORM = (
    "Say in the prompt in which form an answer must end: `secondnature look RUN/recipe.yaml --out RUN` shows the replies and "
    "names the key to set."
)


def caveats(report: Report) -> list[Caveat]:
    """What contamination and regression ask one to mind."""
    found: list[Caveat] = []
    if (seen := report.contamination) is not None and seen.flagged:
        left = seen.without.systems.get(DISTILLED)
        figure = None if left is None else left.agreement_with_system2 if left.accuracy is None else left.accuracy
        without = "" if figure is None else f": without them the distilled model has {figure:.3f}"
        text = f"{seen.flagged} of {seen.n} test prompts are also in training{without}."
        found.append(Caveat(kind="contamination", text=text))
    general = None if report.regression is None else report.regression.general
    if general is not None:
        moved = 0.0 if general.divergence is None else general.divergence.kl
        if moved >= MOVED or abs(general.tokens_distilled - general.tokens_base) > LENGTHS * general.tokens_base:
            by = f"by {moved:.2f} nats a token, " if moved else ""
            text = (
                f"Elsewhere the adapter changes what the model says, {by}from {general.tokens_base:.0f} to "
                f"{general.tokens_distilled:.0f} tokens an answer to {general.n} general prompts: use it for this task alone."
            )
            found.append(Caveat(kind="regression", text=text))
    return found


def next_step(report: Report) -> str:
    """One or two sentences on what to do now, with the command or the key to set; RUN in it stands for the run folder."""
    settings, curation, verdict = report.settings, report.curation, report.verdict
    slow, distilled = report.of(SYSTEM2), report.of(DISTILLED)
    kept = None if curation is None else curation.kept
    tokens = f"sampling.max_tokens (now {settings.max_tokens})"
    on = "`secondnature distill RUN/recipe.yaml --out RUN`"
    if slow is None:
        return f"Go on with {on}; it needs test prompts (data.test)."
    if slow.unparsable > UNPARSABLE:
        if 2 * (slow.truncated or 0.0) > slow.unparsable:
            return f"Raise {tokens}, or ask for shorter reasoning, then run it again."
        return f"{FORM} Then run it again."
    if curation is not None and kept == 0 and verdict != "keep-system1":
        return _where_nothing_was_kept(curation.discarded, settings, tokens)
    if verdict == "keep-system1":
        return (
            "Try another technique, or prompts that System 1 gets wrong: `secondnature look RECIPE` says on a few prompts "
            "whether System 2 lifts, before anything is paid for. Where System 1 reasons by itself, ask it for a short answer "
            "(system1.instruction)."
        )
    lifts = any(test.name == "system2 - system1" and test.decided for test in report.tests)
    if distilled is None and (lifts or slow.accuracy is None):
        if kept is None:
            return f"Sample and distil it: {on}."
        return f"Train on the {kept} kept answers: `secondnature train RUN`, then evaluate and report."
    if report.part == "dev" and verdict in ("ship", "route"):
        return (
            "See whether it holds on the test part: `secondnature evaluate RUN --set evaluate.part=test`, then report."
        )
    if verdict == "ship":
        return 'Try it: `secondnature ask RUN "..."`. Then `secondnature export RUN` writes the adapter and its model card.'
    if verdict == "route":
        return (
            "Serve the distilled model first (`secondnature export RUN`) and give System 2 what it must not get wrong. More "
            "training prompts (data.train), or a larger train.lora_r, may close the gap."
        )
    if verdict == "keep-system2":
        return (
            "Train on more or cleaner answers: more prompts in data.train, a higher verify.min_agreement "
            f"(now {settings.min_agreement:g}), more train.num_train_epochs. Compare such settings on the dev part "
            "(evaluate.part: dev); the stored replies are used again."
        )
    return _where_it_is_open(report, slow.accuracy is not None)


def _where_nothing_was_kept(discarded: Mapping[str, int], settings: Settings, tokens: str) -> str:
    reason = max(discarded, key=lambda name: discarded[name], default="")
    if reason == "truncated":
        return f"Nothing was kept because replies were truncated: raise {tokens}, then run it again."
    if reason == "unparsable":
        return f"Nothing was kept because replies could not be parsed. {FORM} Then run it again."
    return (
        "Nothing was kept because System 2's samples of a prompt do not agree: lower sampling.temperature "
        f"(now {settings.temperature:g}), or try an easier task or a larger model; a lower verify.min_agreement "
        f"(now {settings.min_agreement:g}) keeps more, and more that is wrong."
    )


def _where_it_is_open(report: Report, labelled: bool) -> str:
    ceiling = None if report.agreement is None else report.agreement.ceiling
    if not labelled and ceiling is None:
        return "Measure System 2 against itself: `secondnature evaluate RUN`, then report."
    if not labelled and ceiling is not None and ceiling < REPEATS:
        return (
            "Label some test prompts (an `answer` each), or lower sampling.temperature so that System 2 repeats itself."
        )
    power, limit = report.power, report.settings.limit
    many = "more test prompts"
    if power is not None and power.needed is not None and power.needed > power.groups:
        many = f"test prompts of about {power.needed:,} independent groups (there are {power.groups:,})"
    cut = f" The run was cut to --limit {limit}: leave that out." if limit is not None else ""
    return (
        f"Give {many}, in data.test or by the task's options; then `secondnature evaluate RUN` and report. Nothing is trained "
        f"anew.{cut}"
    )


def told(report: Report, page: Path) -> str:
    """What the terminal says below the table: the verdict, what to mind, what to do, where the page is."""
    step = report.next_step.replace("RUN", shlex.quote(str(page.parent)))
    caveats = [f"- {caveat.text}" for caveat in report.caveats]
    return "\n".join([f"{report.verdict}: {report.reason}", *caveats, f"Next: {step}", str(page)])
