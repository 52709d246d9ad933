"""A run as something to ask: `load("runs/mine")("...")`. It reads the run's folder, and writes nothing there."""

import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, cast, overload

from secondnature.adapters import Adapter, find_adapter, is_current
from secondnature.context import run_async
from secondnature.engines import open_engine
from secondnature.engines.base import Engine
from secondnature.files import read_json, read_rows
from secondnature.recipe import Recipe
from secondnature.recipe_file import parse_recipe, read_yaml
from secondnature.resolve import kind_of, system1_of, system2_of
from secondnature.run import Run
from secondnature.sampling import Model, System, Usage, draw, in_order
from secondnature.tasks.columns import digest, messages_of
from secondnature.trust import check, http_options, missing, remember
from secondnature.types import Example, Message, UserError
from secondnature.user_code import UserFunction

Asked = Literal["distilled", "system1", "system2"]
Prompt = str | Sequence[Message | Mapping[str, str]]  # a text, or a conversation


@dataclass(frozen=True, slots=True)
class Answered:
    """What a system answered.

    `text` is its final output, `answer` what the run reads there as the answer: None where it cannot, and then `failure` says
    why. Tokens are those of all calls. Milliseconds pass from asking until the answer is there: with other prompts asked at
    the same time they are shared with those.
    """

    text: str
    answer: str | None
    failure: Literal["truncated", "unparsable"] | None
    tokens: int
    prompt_tokens: int
    milliseconds: float
    system: Asked


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows of a JSON Lines file, read from it whenever they are gone through. None where there is no file."""

    path: Path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return read_rows(self.path, "remove it, and `secondnature verify` makes it anew")

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass
class _Opened:
    """The engine of a run, once it is open; `asking` counts those who use it."""

    engine: Engine | None = None
    adapter: str | None = None
    asking: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


@dataclass(frozen=True, repr=False, eq=False)
class LoadedRun:
    """A run to look at and to ask, from `load` or `distill`: called with a prompt, it gives the distilled model's answer.

    The model is loaded when it is first asked, and freed by `close()` or at the end of a `with`. It may be asked from several
    threads, and in a notebook. Answers are greedy. Nothing that is asked is stored.
    """

    folder: Path
    recipe: Recipe
    _opened: _Opened = field(default_factory=_Opened)

    @overload
    def __call__(self, prompt: Prompt, /) -> str: ...  # pyright: ignore[reportOverlappingOverload]  # a text has no prompts in it
    @overload
    def __call__(self, prompt: Sequence[Prompt], /) -> list[str]: ...
    def __call__(self, prompt: Prompt | Sequence[Prompt], /) -> str | list[str]:
        """The distilled model's final output: a text for a prompt, a list of texts for a list of prompts.

        A prompt is a text or a conversation. Raises UserError where nothing is distilled, or a prompt cannot be asked.
        """
        answered = self.ask(prompt)
        return [one.text for one in answered] if isinstance(answered, list) else answered.text

    @overload
    def ask(  # pyright: ignore[reportOverlappingOverload]
        self, prompt: Prompt, /, *, system: Literal[1, 2] | None = None
    ) -> Answered: ...
    @overload
    def ask(self, prompt: Sequence[Prompt], /, *, system: Literal[1, 2] | None = None) -> list[Answered]: ...
    def ask(
        self, prompt: Prompt | Sequence[Prompt], /, *, system: Literal[1, 2] | None = None
    ) -> Answered | list[Answered]:
        """The answer of System 1 or 2, or else of the distilled model, with what it took. Takes and raises what a call does."""
        one, prompts = (True, [cast("Prompt", prompt)]) if _is_prompt(prompt) else (False, cast("list[Prompt]", prompt))
        examples = [self.example(given) for given in prompts]

        async def all_of_them() -> list[Answered]:
            return [answered async for _, answered in self.answers(examples, named(system))]

        found = run_async(all_of_them())
        return found[0] if one else found

    async def answers(
        self, examples: Iterable[Example], system: Asked, drawn: Usage | None = None
    ) -> AsyncGenerator[tuple[Example, Answered]]:
        """A system's answers, each with its example, in order; `drawn` counts the calls."""
        kind = kind_of(self.recipe)
        with self._asking(system) as (engine, asked):
            model = Model(None, engine.identity, engine, drawn or Usage())

            async def answer(example: Example) -> tuple[Example, Answered]:
                started = time.perf_counter()
                sample = await draw(model, asked, example, 0, kind)
                took = round(1000 * (time.perf_counter() - started), 1)
                tokens = sample.completion_tokens, sample.prompt_tokens
                return example, Answered(sample.text, sample.answer, sample.failure, *tokens, took, system)

            async for answered in in_order(examples, answer, model.width):
                yield answered

    def example(self, prompt: Prompt) -> Example:
        """The prompt as it is asked: after the recipe's system message, where it has none of its own."""
        given = prompt if isinstance(prompt, str) else [_as_dict(turn) for turn in prompt]
        messages = messages_of(given, "the prompt")
        system = self.recipe.data.system if self.recipe.data is not None else None
        if system is not None and messages[0].role != "system":
            messages = (Message("system", system), *messages)
        return Example(digest(messages), messages)

    @contextmanager
    def _asking(self, name: Asked) -> Generator[tuple[Engine, System]]:
        """The engine and the system in it. An adapter is added while nobody is asked."""
        opened = self._opened
        adapter = self._adapter() if name == "distilled" else None
        system = (system2_of if name == "system2" else system1_of)(self.recipe).greedy()
        if isinstance(system.technique, UserFunction):
            check(self.recipe)
            system.technique.load()
        with opened.changed:
            if opened.engine is None:
                choice = self.recipe.engine
                http = http_options(self.recipe, choice.http())
                opened.engine = open_engine(self.recipe.model, choice.kind, choice.dtype, choice.device, http)
            engine = opened.engine
            if adapter is not None and opened.adapter != adapter.name:
                opened.changed.wait_for(lambda: not opened.asking)
                engine.load_adapter(adapter.name, str(adapter.folder))
                opened.adapter = adapter.name
            opened.asking += 1
        try:
            yield engine, replace(system, adapter=adapter.name if adapter is not None else None)
        finally:
            with opened.changed:
                opened.asking -= 1
                opened.changed.notify_all()

    def _adapter(self) -> Adapter:
        adapter = find_adapter(self.folder / "adapter")
        if adapter is None:
            reason = str(self.report.get("reason") or "it was not trained yet").rstrip(".")
            raise UserError(
                f"{self.folder}: nothing is distilled here ({reason}): ask System 2 with --system 2 (from Python, system=2), "
                f"or go on with the run: secondnature train {self.folder}"
            )
        return adapter

    @property
    def notice(self) -> str | None:
        """A warning where the adapter is not the one that the recipe would make now; None otherwise."""
        run = Run(self.folder, self.recipe)
        if not run.adapter.exists() or not run.curated.exists() or is_current(run):
            return None
        return (
            f"{self.folder}: the adapter was trained on something else than the recipe and curated.jsonl say now: "
            f"`secondnature train {self.folder}` makes it anew"
        )

    @property
    def report(self) -> dict[str, Any]:
        """What `report.json` holds; empty where there is none yet."""
        return read_json(self.folder / "report.json", f"run `secondnature report {self.folder}` again")

    @property
    def verdict(self) -> str | None:
        """Whether to ship, in a word; None where there is no report yet."""
        return self.report.get("verdict")

    @property
    def curated(self) -> Lines:
        """The kept prompts with their answers, as curated.jsonl has them."""
        return Lines(self.folder / "curated.jsonl")

    def __repr__(self) -> str:
        return f"<Run {self.folder}: {described(self.report)}>"

    def close(self) -> None:
        """Free the model, once nobody is asking; the next prompt loads it again."""
        opened = self._opened
        with opened.changed:
            opened.changed.wait_for(lambda: not opened.asking)
            engine, opened.engine, opened.adapter = opened.engine, None, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(folder: str | Path, *, trust: bool = False) -> LoadedRun:
    """The run in a folder, to look at and to ask. Raises UserError where the folder is none.

    `trust` is a yes to the Python files that its recipe names, and to sending a key where it says: only System 2 with a
    technique of one's own, and a model at an endpoint, need it. It is remembered.

    Nothing else than the folder must be there, but for the model; for System 2 with a technique of one's own, its file.
    """
    path = Path(folder) / "recipe.yaml"
    if not path.exists():
        raise UserError(
            f"{folder} is not a run: it has no recipe.yaml (`secondnature distill RECIPE --out {folder}` makes one)"
        )
    run = LoadedRun(Path(folder), parse_recipe(read_yaml(path), str(path)))
    if trust:
        remember(missing(run.recipe))
    return run


def named(system: int | None) -> Asked:
    """The system with this number; the distilled model without one."""
    names: dict[int | None, Asked] = {None: "distilled", 1: "system1", 2: "system2"}
    if system not in names:
        raise UserError(f"system: 1 or 2, or none for the distilled model, not {system!r}")
    return names[system]


def described(report: Mapping[str, Any]) -> str:
    """A report in half a line: the verdict, and what the systems came to."""
    if not report:
        return "no report yet"
    systems: dict[str, Any] = {name: system for name, system in report["systems"].items() if system is not None}
    labelled = any(system.get("accuracy") is not None for system in systems.values())
    key = "accuracy" if labelled else "agreement_with_system2"
    names = {"distilled": "distilled", "system1": "System 1", "system2": "System 2"}
    found = [f"{title} {systems[name][key]:.2f}" for name, title in names.items() if name in systems]
    figures = f"{' vs '.join(found[:2])}{''.join(f', {more}' for more in found[2:])}" if found else "nothing measured"
    figures += f" ({'accuracy' if labelled else 'agreement with System 2'})" if found else ""
    curation = report.get("curation")
    kept = f"; {curation['kept']} of {curation['prompts']} prompts kept" if curation else ""
    return f"{report['verdict']}, {figures}{kept}"


def _is_prompt(given: Prompt | Sequence[Prompt]) -> bool:
    """Whether it is one prompt: a text, or a list of messages."""
    return isinstance(given, str) or (len(given) > 0 and all(isinstance(turn, Message | Mapping) for turn in given))


def _as_dict(turn: object) -> object:
    """A message as data has it; whatever else it is, for `messages_of` to refuse."""
    return turn.as_dict() if isinstance(turn, Message) else turn
