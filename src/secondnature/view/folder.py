"""A run folder opened for reading alone: no lock is taken, nothing is written, nothing is drawn."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from secondnature.adapters import CONTROLS, current_adapters, is_seed
from secondnature.context import RunContext
from secondnature.progress import Display
from secondnature.recipe_file import parse_recipe, read_yaml
from secondnature.resolve import Resolved, prepare
from secondnature.run import Run
from secondnature.sampling import Model, System
from secondnature.train import CONFIG, WEIGHTS
from secondnature.types import UserError
from secondnature.untrusted import parse_json


@dataclass(frozen=True)
class Opened:
    """A run as its folder is now; `model` is None where nothing was sampled yet."""

    run: Run
    resolved: Resolved
    context: RunContext | None
    model: Model | None

    def systems(self, decided: bool) -> dict[str, System]:
        """The ways in which test prompts are answered, by their names in report.json.

        Where all votes are `decided` those adapters are among them that belong to the recipe and the votes as they are now.
        """
        resolved = self.resolved
        adapters = {}
        if decided and self.context is not None and self.model is not None:
            adapters = {
                name: adapter.name
                for name, adapter in current_adapters(self.context, checked=False).items()
                if not is_seed(name)
            }
        found = {"system1": resolved.system1, "system2": resolved.system2}
        found |= {name: replace(resolved.system1, adapter=digest) for name, digest in adapters.items()}
        found |= {f"baseline_{name}": system for name, system in resolved.baselines.items()}
        return {name: system.greedy() for name, system in found.items()}


def open_folder(folder: Path) -> Opened:
    """Open the run in `folder`. Raises UserError where it is none, or its data are not there any more."""
    path = folder / "recipe.yaml"
    if not path.exists():
        raise UserError(f"{folder} is not a run: it has no recipe.yaml")
    run = Run(folder, parse_recipe(read_yaml(path), str(path)))
    if not run.calls.exists():
        return Opened(run, prepare(run.recipe), None, None)
    context = RunContext(run, Display(quiet=True), read_only=True)
    identity = identity_of(folder)
    return Opened(run, context.resolved, context, None if identity is None else Model(context.store, identity))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none or the file holds something else."""
    try:
        found: object = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def identity_of(folder: Path) -> Mapping[str, str] | None:
    """Which model made the run's calls; None where none were made."""
    found = read_json(folder / "run.json").get("model")
    return cast("dict[str, str]", found) if isinstance(found, dict) else None


def adapter_folders(folder: Path) -> dict[str, Path]:
    """The trained adapters in a run folder, by system."""
    places = {"distilled": folder / "adapter", **{name: folder / name for name in CONTROLS}}
    return {name: place for name, place in places.items() if (place / WEIGHTS).exists()}


def setup_stamp(folder: Path, calls: Path | None) -> tuple[object, ...]:
    """What the votes of a run depend on besides its calls: another stamp, and all is read again."""
    there = calls is not None and calls.exists()
    return _time(folder / "recipe.yaml"), there, json.dumps(identity_of(folder), sort_keys=True)


def adapters_stamp(folder: Path) -> tuple[object, ...]:
    files = (WEIGHTS, CONFIG, "training.json")
    return tuple((name, *(_time(place / file) for file in files)) for name, place in adapter_folders(folder).items())


def seconds_since_change(run: Run) -> float:
    """How long ago anything in the run changed that a stage writes while it works."""
    store = run.calls.name
    files = [run.calls, run.folder / "run.json", run.curated, run.report]
    log = run.calls.with_name(store + "-wal")
    files += [log] if log.exists() and log.stat().st_size else []  # an empty one is a reader's, maybe our own
    files += (run.folder / "checkpoints").glob("*")
    return max(0.0, time.time() - max(map(_time, files)) / 1e9)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
