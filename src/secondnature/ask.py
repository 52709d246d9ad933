"""`secondnature ask`: one prompt's answer, three systems side by side, or the answers to a file of prompts as JSON Lines."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, cast

import typer
from rich import box
from rich.table import Table

from secondnature.context import run_async
from secondnature.engines.models import cache_folder
from secondnature.files import to_line
from secondnature.progress import Display
from secondnature.recipe import Recipe
from secondnature.resolve import columns_of
from secondnature.sampling import Usage
from secondnature.tasks.columns import AS_WRITTEN, Columns
from secondnature.tasks.data import read_lines
from secondnature.tasks.sources import Lines, as_lines
from secondnature.types import Example, Row, UserError
from secondnature.untrusted import parse_json, plain
from secondnature.use import Answered, Asked, LoadedRun

NAMES: dict[Asked, str] = {"system1": "System 1", "system2": "System 2", "distilled": "Distilled"}
STDIN = Path("-")


def answer_one(run: LoadedRun, prompt: str, system: Asked, display: Display) -> None:
    """Print the answer to a prompt, and nothing else, on standard output."""
    with _waiting(display, "asking"):
        [answered] = _asked(run, prompt, system)
    _print(answered.text)
    if answered.failure == "truncated":
        display.say(f"note: truncated after {run.recipe.sampling.max_tokens} tokens (sampling.max_tokens)")


def compare_systems(run: LoadedRun, prompt: str, display: Display) -> None:
    """Print what every system answers, and what it took, one after the other and each with its model loaded before."""
    found: list[Answered] = []
    line = "tokens: generated, in all calls; prompt: read; ms: this prompt alone, once the model is loaded"
    for system in NAMES:
        with _waiting(display, f"asking {NAMES[system]}"):
            try:
                _asked(run, "Hello", system, max_tokens=1)  # the first call of all takes longer than any other
                found += _asked(run, prompt, system)
            except UserError as error:
                if system != "distilled":
                    raise
                line = f"{error}"
    display.result(_table(found), line)


def _asked(run: LoadedRun, prompt: str, system: Asked, max_tokens: int | None = None) -> list[Answered]:
    if max_tokens is not None:
        sampling = run.recipe.sampling.model_copy(update={"max_tokens": max_tokens})
        run = replace(run, recipe=run.recipe.model_copy(update={"sampling": sampling}))

    async def answers() -> list[Answered]:
        return [answered async for _, answered in run.answers([run.example(prompt)], system)]

    return run_async(answers())


def _table(found: Sequence[Answered]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("", "says", "read as"):
        table.add_column(column, overflow="fold")
    for column in ("tokens", "prompt", "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        read = plain(one.answer) if one.answer is not None else f"({one.failure})"
        figures = (f"{one.tokens:,}", f"{one.prompt_tokens:,}", f"{one.milliseconds:,.0f}")
        table.add_row(NAMES[one.system], plain(one.text), read, *figures)
    return table


def answer_file(run: LoadedRun, source: Path, system: Asked, out: Path | None, display: Display) -> None:
    """Answer the prompts of a file, or of standard input where it is "-", as JSON Lines in their order.

    With `out` the lines go to that file, whose answers of a former run that was stopped are kept.
    """
    drawn = Usage()
    with _rows_of(source, run.recipe) as rows:
        before = 0 if out is None else _answered_before(out, rows, system, run)
        left = (row.example for row in islice(rows, before, None))
        with _lines_to(out) as write, display.step("ask"), display.stage("ask", len(rows), drawn) as bar:
            bar.done = before
            if before:
                display.say(f"{out}: {before} of {len(rows)} answers are there already")

            async def write_all() -> None:
                async for example, answered in run.answers(left, system, drawn):
                    write(_row(example, answered))
                    bar.advance()

            run_async(write_all())


def _asked_in(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row.get("id"), row.get("prompt"), row.get("system")


def _row(example: Example, answered: Answered) -> dict[str, Any]:
    return {
        "id": example.id,
        "prompt": _prompt(example),
        "text": answered.text,
        "answer": answered.answer,
        "failure": answered.failure,
        "tokens": answered.tokens,
        "milliseconds": answered.milliseconds,
        "system": answered.system,
    }


def _prompt(example: Example) -> str | list[dict[str, str]]:
    """A text where the conversation is one turn of the user's."""
    messages = [message.as_dict() for message in example.messages]
    return example.text if len(messages) == 1 else messages


@contextlib.contextmanager
def _rows_of(source: Path, recipe: Recipe) -> Generator[Sequence[Row]]:
    """The prompts of a file, one to a line of text or to a row with the columns of the recipe's data. Labels are not read."""
    columns = Columns() if recipe.data is None else replace(columns_of(recipe.data), answer="", slices=())
    with tempfile.TemporaryDirectory() as folder:
        if source == STDIN:
            read = _as_rows("standard input", sys.stdin.buffer.read(), Path(folder), columns)
        elif source.suffix.lower() == ".txt":
            if not source.is_file():
                raise UserError(f"there is no file {source}")
            read = _as_rows(str(source), source.read_bytes(), Path(folder), columns)
        else:
            read = as_lines(source, columns, cache_folder()), columns
        yield read_lines(read[0], read[1], AS_WRITTEN)


def _as_rows(name: str, content: bytes, folder: Path, columns: Columns) -> tuple[Lines, Columns]:
    """Lines of JSON objects as they are, of text as prompts that are whole."""
    path = folder / "prompts.jsonl"
    if content.lstrip().startswith(b"{"):
        path.write_bytes(content)
        return Lines(path, name, "line"), columns
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    path.write_text("".join(to_line({"prompt": line}) if line.strip() else "\n" for line in lines), encoding="utf-8")
    return Lines(path, name, "line"), Columns(system=columns.system)


def _answered_before(out: Path, rows: Sequence[Row], system: Asked, run: LoadedRun) -> int:
    """How many prompts, from the first on, have their answer in `out`; a line that was not written whole is taken out of it.

    Raises UserError where what is there answers other prompts, or was answered by another system or adapter.
    """
    if not out.exists():
        return 0
    content = out.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    other = f"{out}: holds something else than answers of {NAMES[system]} to these prompts: give --out another file"
    weights = run.folder / "adapter" / "adapter_model.safetensors"
    if system == "distilled" and whole and weights.exists() and weights.stat().st_mtime > out.stat().st_mtime:
        raise UserError(f"{out} is older than the adapter in {run.folder}: give --out another file")
    lines = whole.split(b"\n")[:-1]
    for line, row in zip(lines, chain(rows, repeat(None)), strict=False):
        try:
            there = parse_json(line.decode())
        except ValueError:
            raise UserError(other) from None
        wanted = None if row is None else (row.example.id, _prompt(row.example), system)
        if not isinstance(there, dict) or _asked_in(cast("dict[str, Any]", there)) != wanted:
            raise UserError(other)
    if len(whole) < len(content):
        with out.open("r+b") as file:
            file.truncate(len(whole))
    return len(lines)


@contextlib.contextmanager
def _lines_to(out: Path | None) -> Generator[Callable[[dict[str, Any]], None]]:
    """What writes a row as a line, at once: to a file, or to standard output."""
    if out is None:
        yield lambda row: _print(to_line(row).rstrip("\n"))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8", buffering=1) as file:
        yield lambda row: (file.write(to_line(row)), None)[1]


def _print(text: str) -> None:
    """A model's text: on a terminal without what could steer it."""
    typer.echo(plain(text) if sys.stdout.isatty() else text)


def _waiting(display: Display, what: str) -> contextlib.AbstractContextManager[object]:
    """A sign of life on a terminal, while a model is loaded and asked."""
    return display.console.status(what) if sys.stderr.isatty() else contextlib.nullcontext()
