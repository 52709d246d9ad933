"""`curated.jsonl` and `discarded.jsonl`, and `curation.json` beside them: what they were made from, and the totals.

Training, evaluation, report, view and export read these files; only `verify` replays the votes to write them.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from secondnature.context import RunContext
from secondnature.files import digest_of, file_digest, read_json, read_rows, to_json, write
from secondnature.run import Run
from secondnature.tasks.columns import messages_of
from secondnature.train import TrainingExample
from secondnature.types import UserError
from secondnature.user_code import UserFunction

DIGITS = 16  # of a SHA-256, where it tells settings or training sets apart


@dataclass(frozen=True, slots=True)
class Curation:
    """`curation.json`: what the votes on all training prompts came to. Nothing in it depends on a label.

    `settings` is a digest of what the votes depend on, `examples` one of the training set. `samples_fixed_n` is how many samples
    the same votes take without early stopping. `calls` counts every call of every sample, `calls_distinct` each stored one
    once, and the tokens are of the latter, but for `tokens`.
    """

    settings: str
    examples: str
    curated_sha256: str
    discarded_sha256: str
    prompts: int
    kept: int
    discarded: Mapping[str, int]  # by reason, the most frequent first
    samples: int
    samples_fixed_n: int
    tokens: int  # generated, of all samples
    calls: int
    calls_distinct: int
    tokens_prompt: int
    tokens_completion: int
    edited: bool = False  # curated.jsonl was edited by hand, and `train --edited` accepted it


def settings_digest(context: RunContext) -> str:
    """A digest of what the votes depend on, but for the replies: the model, the prompts and the recipe's keys on sampling and
    verifying, with the files of the user's own functions in them. Labels are no part of it."""
    recipe, resolved = context.run.recipe, context.resolved
    keys = {"task", "answer", "technique", "sampling", "verify", "system1"}
    functions = (resolved.system2.technique, *resolved.verifier.perturb.values())
    content = {
        "model": context.run.state.get("model"),
        "recipe": recipe.model_dump(include=keys, exclude_none=True),
        "functions": [function.digest for function in functions if isinstance(function, UserFunction)],
        "prompts": resolved.prompts_digest,
    }
    return digest_of(content)[:DIGITS]


def examples_digest(examples: Iterable[TrainingExample]) -> str:
    """A digest of a training set: of its prompts and completions, in their order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([[m.as_dict() for m in example.prompt], example.completion]).encode() + b"\n")
    return digest.hexdigest()[:DIGITS]


# --- what belongs together


def stored(run: Run) -> Curation | None:
    """What `curation.json` holds; None where there is none. Raises UserError for a damaged one."""
    content = read_json(run.curation, _again(run))
    if not content:
        return None
    try:
        found = Curation(**content)
        counts = [getattr(found, field.name) for field in fields(found) if field.type is int]
        if not all(isinstance(n, int) and n >= 0 for n in [*counts, *found.discarded.values()]):
            raise TypeError
    except (TypeError, AttributeError):
        raise UserError(f"{run.curation}: holds something else than was written there: {_again(run)}") from None
    return found


def unedited(run: Run, found: Curation) -> bool:
    """Whether `curated.jsonl` is the file that `found` describes."""
    return file_digest(run.curated) == found.curated_sha256


def checked(run: Run) -> Curation:
    """What `curation.json` holds. Raises UserError where there is none, or the files are not those that it describes."""
    found = stored(run)
    if found is None or not run.curated.exists():
        raise UserError(f"{run.folder}: nothing is curated yet: run `secondnature verify {run.folder}` first")
    if not unedited(run, found):
        raise UserError(
            f"{run.curated} was changed since it was written: `secondnature train {run.folder} --edited` takes it as it is, "
            f"{_again(run)}"
        )
    return found


def current(context: RunContext) -> Curation:
    """The curation that belongs to the recipe, the model and the prompts of now. Raises UserError where there is none."""
    context.offline()  # refuses where the recipe now names another model
    found = checked(context.run)
    check_settings(context, found)
    return found


def check_settings(context: RunContext, found: Curation) -> None:
    """Raises UserError where the curation was made from something else than the recipe names now."""
    if found.settings != settings_digest(context):
        run = context.run
        raise UserError(f"{run.curated} was made with another recipe, model or other prompts: {_again(run)}")


def accept_edits(context: RunContext) -> None:
    """Make `curated.jsonl`, edited by hand, the training set of the run."""
    run, found = context.run, stored(context.run)
    if found is None or unedited(run, found):
        return
    check_settings(context, found)
    kept, digest = 0, file_digest(run.curated)

    def examples() -> Iterator[TrainingExample]:
        nonlocal kept
        for example in training_examples(run):
            kept += 1
            yield example

    examples_now = examples_digest(examples())
    write_curation(run, replace(found, curated_sha256=digest, examples=examples_now, kept=kept, edited=True))
    context.display.say(f"train: {run.curated} was edited: {kept:,} prompts are kept in it now")


def write_curation(run: Run, curation: Curation) -> None:
    write(run.curation, to_json(asdict(curation)))


def _again(run: Run) -> str:
    return f"`secondnature verify {run.folder}` writes it anew"


# --- the rows


def kept_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The rows of curated.jsonl, read as they are asked for. Raises UserError for one that is damaged."""
    return _rows(run, run.curated, KEPT)


def discarded_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The same of discarded.jsonl."""
    return _rows(run, run.discarded, DISCARDED)


def training_examples(run: Run) -> Iterator[TrainingExample]:
    """What the student learns, as curated.jsonl has it."""
    for row in kept_rows(run):
        yield TrainingExample(messages_of(row["prompt"], row["id"]), row["completion"][0]["content"])


def _rows(run: Run, path: Path, form: Mapping[str, Callable[[Any], bool]]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(read_rows(path, _again(run)), 1):
        for name, fits in form.items():
            if name not in row or not fits(row[name]):
                raise UserError(f"{path}, line {number}: {name!r} is not what was written there: {_again(run)}")
        yield row


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_turns(value: Any) -> bool:
    turns = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(turns) and all(map(_is_turn, turns))


def _is_turn(value: Any) -> bool:
    turn = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return set(turn) == {"role", "content"} and all(map(_is_text, turn.values()))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**31


def _are_votes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, cast("dict[str, Any]", value).values()))


# What a row holds at least: `row` is the training prompt's place, counted from 0.
VOTED = {"id": _is_text, "row": _is_count, "n": _is_count, "agreement": _is_share, "votes": _are_votes}
DISCARDED = {**VOTED, "reason": _is_text}
KEPT = {**VOTED, "prompt": _are_turns, "completion": _are_turns, "answer": _is_text}
