"""What follows from a report: what to mind, and what to do next. Both are functions of report.json alone."""

import shlex
from pathlib import Path

from secondnature.evaluate.verdict import REPEATS, UNPARSABLE
from secondnature.report.fields import Json, num, part, parts, string

MOVED, LENGTHS = 0.1, 0.25  # nats a token, and the share by which answers got longer or shorter, that are worth a word
FORM = (
    "Say in the prompt in which form an answer must end: `secondnature look {run}/recipe.yaml --out {run}` shows the replies and "
    "names the key to set."
)


def caveats(report: Json) -> list[str]:
    """What contamination and regression ask one to mind."""
    found: list[str] = []
    seen, general = part(report, "contamination"), part(report, "regression")
    if flagged := num(seen, "flagged"):
        left = part(part(part(seen, "without"), "systems"), "distilled")
        figure = num(left, "accuracy") if "accuracy" in left else num(left, "agreement_with_system2")
        without = "" if figure is None else f": without them the distilled model has {figure:.3f}"
        found.append(
            f"{flagged:.0f} of {num(seen, 'n') or 0:.0f} test prompts were seen before, in training or by the model{without}."
        )
    before, after = (num(part(general, "lengths"), side) for side in ("base", "distilled"))
    if before is not None and after is not None:
        moved = num(general, "kl") or 0.0
        if moved >= MOVED or abs(after - before) > LENGTHS * before:
            by = f"by {moved:.2f} nats a token, " if moved else ""
            found.append(
                f"Elsewhere the adapter changes what the model says, {by}from {before:.0f} to {after:.0f} tokens an answer to "
                f"{num(general, 'n') or 0:.0f} general prompts: use it for this task alone."
            )
    return found


def next_step(report: Json) -> str:
    """One or two sentences on what to do now, with the command or the key to set; RUN in it stands for the run folder."""
    run = "RUN"
    systems, curation, settings = part(report, "systems"), part(report, "curation"), part(report, "settings")
    slow, distilled = part(systems, "system2"), part(systems, "distilled")
    labelled, kept = num(slow, "accuracy") is not None, num(curation, "kept")
    tokens = f"sampling.max_tokens (now {num(settings, 'max_tokens') or 0:.0f})"
    on = f"`secondnature distill {run}/recipe.yaml --out {run}`"
    if not slow:
        return f"Go on with {on}; it needs test prompts (data.test)."
    if (unparsable := num(slow, "unparsable") or 0.0) > UNPARSABLE:
        if 2 * (num(slow, "truncated") or 0.0) > unparsable:
            return f"Raise {tokens}, or ask for shorter reasoning, then run it again."
        return f"{FORM.format(run=run)} Then run it again."
    verdict = string(report, "verdict")
    if kept == 0 and verdict != "keep-system1":
        return _where_nothing_was_kept(part(curation, "discarded"), settings, tokens, run)
    if verdict == "keep-system1":
        return (
            "Try another technique, or prompts that System 1 gets wrong: `secondnature look RECIPE` says on a few prompts "
            "whether System 2 lifts, before anything is paid for. Where System 1 reasons by itself, ask it for a short answer "
            "(system1.instruction)."
        )
    lifts = any(t.get("name") == "system2 - system1" and t.get("decided") is True for t in parts(report, "tests"))
    if not distilled and (lifts or not labelled):
        if kept is None:
            return f"Sample and distil it: {on}."
        return f"Train on the {kept:.0f} kept answers: `secondnature train {run}`, then evaluate and report."
    if string(report, "part") == "dev" and verdict in ("ship", "route"):
        return f"See whether it holds on the test part: `secondnature evaluate {run} --set evaluate.part=test`, then report."
    if verdict == "ship":
        return f'Try it: `secondnature ask {run} "..."`. Then `secondnature export {run}` writes the adapter and its model card.'
    if verdict == "route":
        return (
            f"Serve the distilled model first (`secondnature export {run}`) and give System 2 what it must not get wrong. More "
            "training prompts (data.train), or a larger train.lora_r, may close the gap."
        )
    if verdict == "keep-system2":
        return (
            "Train on more or cleaner answers: more prompts in data.train, a higher verify.min_agreement "
            f"(now {num(settings, 'min_agreement') or 0:g}), more train.num_train_epochs. Compare such settings on the dev part "
            "(evaluate.part: dev); what was drawn is used again."
        )
    return _where_it_is_open(report, labelled, run)


def _where_nothing_was_kept(discarded: Json, settings: Json, tokens: str, run: str) -> str:
    reason = max(discarded, key=lambda name: num(discarded, name) or 0, default="")
    if reason == "truncated":
        return f"Nothing was kept because replies were truncated: raise {tokens}, then run it again."
    if reason == "unparsable":
        return f"Nothing was kept because replies could not be read. {FORM.format(run=run)} Then run it again."
    return (
        "Nothing was kept because System 2's samples of a prompt do not agree: lower sampling.temperature "
        f"(now {num(settings, 'temperature') or 0:g}), or try an easier task or a larger model; a lower verify.min_agreement "
        f"(now {num(settings, 'min_agreement') or 0:g}) keeps more, and more that is wrong."
    )


def _where_it_is_open(report: Json, labelled: bool, run: str) -> str:
    ceiling = num(part(report, "agreement"), "ceiling")
    if not labelled and ceiling is None:
        return f"Measure System 2 against itself: `secondnature evaluate {run}`, then report."
    if not labelled and ceiling is not None and ceiling < REPEATS:
        return (
            "Label some test prompts (an `answer` each), or lower sampling.temperature so that System 2 repeats itself."
        )
    groups, needed = (num(part(report, "power"), name) for name in ("groups", "needed"))
    many = "more test prompts"
    if groups is not None and needed is not None and needed > groups:
        many = f"test prompts of about {needed:,.0f} independent groups (there are {groups:,.0f})"
    limit = num(part(report, "settings"), "limit")
    cut = f" The run was cut to --limit {limit:.0f}: leave that out." if limit is not None else ""
    return (
        f"Give {many}, in data.test or by the task's options; then `secondnature evaluate {run}` and report. Nothing is trained "
        f"anew.{cut}"
    )


def told(report: Json, page: Path) -> str:
    """What the terminal says below the table: the verdict, what to mind, what to do, where the page is."""
    lines = [f"{report['verdict']}: {report['reason']}", *(f"- {caveat}" for caveat in report["caveats"])]
    return "\n".join([*lines, f"Next: {report['next_step'].replace('RUN', shlex.quote(str(page.parent)))}", str(page)])
