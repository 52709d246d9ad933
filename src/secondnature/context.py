"""The context of the stages: a run, what its recipe resolves to, its store and its engine."""

import asyncio
import time
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from secondnature.engines import open_engine
from secondnature.engines.base import Engine
from secondnature.engines.endpoint import is_endpoint
from secondnature.progress import Bar, Display
from secondnature.resolve import Resolved, check_lengths, prepare
from secondnature.run import Run
from secondnature.sampling import Model
from secondnature.store import Store
from secondnature.trust import check, http_options
from secondnature.types import UserError

Result = TypeVar("Result")
STORING = 5.0  # seconds at most that a failed stage waits until replies that have arrived are stored


class RunContext:
    """What every stage works with: the run, its resolved recipe, its store, and its engine, opened when first needed.

    A new recipe becomes the folder's own once the engine is ready to sample with it, or a stage that needs no engine is done:
    a stage that fails leaves the folder's recipe as it was. With `read_only` nothing is written, and the store must exist.
    """

    def __init__(self, run: Run, display: Display, *, read_only: bool = False):
        self.run = run
        self.display = display
        self.resolved: Resolved = prepare(run.recipe, display.say, run.own)
        if not read_only and not run.recipe_file.exists():
            run.save_recipe()
        self.store = Store(run.calls, read_only=read_only)
        self._engine: Engine | None = None
        self._model: Model | None = None

    def online(self) -> Model:
        """The model with its engine: it generates what the store does not have.

        Raises UserError where the recipe needs a trust that was not given.
        """
        if self._engine is None:
            choice = self.run.recipe.engine
            # "auto" stays with the engine that the run began with: another engine's replies would differ.
            began = self.run.state.get("model", {}).get("engine", "auto") if choice.kind == "auto" else choice.kind
            if choice.kind == "auto" and is_endpoint(self.run.recipe.model) != (began == "http"):
                began = "auto"  # the model moved to an endpoint, or from one
            spent = (0, 0)
            if choice.max_tokens_total is not None or choice.max_cost is not None:
                spent = self.store.tokens()
            say = self.display.say
            check(self.run.recipe)
            http = http_options(self.run.recipe, choice.http(*spent))
            self.resolved.load_user_code()
            if not http.send_key:
                say(f"engine: the key in {http.api_key_env} is not sent to another host than its own; --trust sends it")
            self._engine = open_engine(self.run.recipe.model, began, choice.dtype, choice.device, http, say)
            check_lengths(self.resolved, self._engine, self.run.recipe.sampling.max_tokens)
            self.run.save_recipe()
            self.run.note(model=dict(self._engine.identity), drawn_by=self._drawn_by)
            self._model = Model(self.store, self._engine.identity, self._engine)
        assert self._model is not None
        return self._model

    def offline(self) -> Model:
        """The model as the store has it: generates nothing. Raises UserError where the recipe now names another one."""
        state, sample = self.run.state, f"secondnature sample {self.run.folder}"
        if "model" not in state:
            raise UserError(f"nothing was sampled yet: run `{sample}` first")
        identity: dict[str, str] = state["model"]
        drawn_by: dict[str, str] = {**self._drawn_by, **state.get("drawn_by", {})}
        for key, now in self._drawn_by.items():
            if now != (before := drawn_by[key]) and not (
                key == "engine.kind" and now in ("auto", identity.get("engine"))
            ):
                raise UserError(
                    f"{key}: what was sampled is of {before!r}, not of {now!r}: sample anew first "
                    f"(`{sample} --set {key}={now}`), or leave {key} as it was"
                )
        return Model(self.store, identity)

    @property
    def _drawn_by(self) -> dict[str, str]:
        """The keys of the recipe that decide which model's replies are in the store."""
        recipe = self.run.recipe
        return {"model": recipe.model, "engine.kind": recipe.engine.kind, "engine.dtype": recipe.engine.dtype}

    @property
    def engine(self) -> Engine:
        self.online()
        assert self._engine is not None
        return self._engine

    def release_engine(self) -> None:
        """Free the engine's memory; the next stage that needs it opens it again."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._model = None

    def stage(self, title: str, total: int, model: Model) -> AbstractContextManager[Bar]:
        """A progress bar for a stage that samples; a silent one where the store has all replies."""
        return self.display.stage(title, total, model.drawn, silent=model.engine is None)

    @contextmanager
    def timed(self, stage: str) -> Generator[None]:
        """Add the time that the stage takes to run.json."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.run.add_seconds(stage, time.monotonic() - started)


@contextmanager
def open_context(run: Run, display: Display) -> Generator[RunContext]:
    """The context of a run; its engine and its store are closed at the end."""
    context = RunContext(run, display)
    try:
        yield context
    finally:
        context.release_engine()
        context.store.close()


async def _flushed(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """`coroutine`; where it fails, replies that have arrived get a moment to be stored: they were paid for."""
    try:
        return await coroutine
    except Exception:
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=STORING)
        raise


def run_async(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run`, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_flushed(coroutine))
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _flushed(coroutine)).result()
