"""The run folder: everything needed to audit, resume or publish what a recipe made."""

import json
import os
import platform
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import yaml
from filelock import FileLock, Timeout

from secondnature.files import read_json, to_json, write
from secondnature.recipe import Recipe
from secondnature.recipe_file import differences, done_again, own_files, parse_recipe, read_yaml
from secondnature.types import UserError
from secondnature.user_code import SHORT, code_digest

# The sections of `run.json`, and the types of their values.
NOTED: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "drawn_by": str,
    "own": str,
    "seconds": (int, float),
    "throughput": dict,
    "versions": str,
    "hardware": (str, int),
}
PACKAGES = ("secondnature", "torch", "transformers", "openvino-genai", "peft", "trl")


class Run:
    """A run's folder and recipe. `open_run` makes or reopens one, and locks it."""

    def __init__(self, folder: Path, recipe: Recipe):
        self.folder = folder
        self.recipe = recipe
        self.recipe_file = folder / "recipe.yaml"
        self.calls = Path(recipe.store) if recipe.store else folder / "calls.sqlite"
        self.curated = folder / "curated.jsonl"
        self.discarded = folder / "discarded.jsonl"
        self.curation = folder / "curation.json"
        self.adapter = folder / "adapter"
        self.report = folder / "report.json"
        self.look = folder / "look.json"
        self.page = folder / "report.html"

    def save_recipe(self) -> None:
        """Write recipe.yaml, versions and hardware: once a stage is done with this recipe, or ready to begin."""
        text = yaml.safe_dump(self.recipe.model_dump(exclude_none=True), sort_keys=False, allow_unicode=True)
        if not self.recipe_file.exists() or self.recipe_file.read_text(encoding="utf-8") != text:
            write(self.recipe_file, text)
        self.note(
            versions=versions(),
            hardware=hardware(),
            seed=self.recipe.train.seed,
            own={**self.own, **_digests(self.recipe)},
        )

    @property
    def own(self) -> dict[str, str]:
        """The digests of user code, as of when the run last used it."""
        files, recorded = own_files(self.recipe), self.state.get("own", {})
        return {file: digest for file, digest in recorded.items() if file in files}

    @property
    def state(self) -> dict[str, Any]:
        """What `run.json` holds."""
        path, mend = self.folder / "run.json", "remove it and run `secondnature sample` again, which makes it anew"
        found = read_json(path, mend)
        for name, kind in NOTED.items():
            noted = found.get(name, {})
            if not isinstance(noted, dict) or not all(
                isinstance(v, kind) for v in cast("dict[str, Any]", noted).values()
            ):
                raise UserError(f"{path}: {name!r} holds something else than was written there: {mend}")
        return found

    def note(self, **values: Any) -> None:
        """Add `values` to `run.json`."""
        write(self.folder / "run.json", to_json({**self.state, **values}))

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to the time that a stage took, over all its restarts."""
        took = dict(self.state.get("seconds", {}))
        took[stage] = round(took.get(stage, 0.0) + seconds, 3)
        self.note(seconds=took)


@contextmanager
def open_run(folder: Path, recipe: Recipe | None, say: Any = print) -> Generator[Run]:
    """The run in `folder`, locked while in use; made from `recipe` where there is none yet.

    A recipe that differs from the folder's replaces it, and `say` gets the differences. Raises UserError where the folder has
    no recipe and none is given, is in use by another process, or is something else.
    """
    path = folder / "recipe.yaml"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    if recipe is None and not path.exists():
        raise UserError(
            f"{folder} is not a run: it has no recipe.yaml (start one with `secondnature distill RECIPE --out {folder}`)"
        )
    ours = {".lock", "recipe.yaml.partial"}  # all there is where the first start was killed
    if folder.is_dir() and not path.exists() and any(p.name not in ours for p in folder.iterdir()):
        raise UserError(f"{folder} is not empty and not a run: give --out a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder} is in use by another process: wait for it, or give --out another folder") from None
    try:
        if path.exists():
            stored = parse_recipe(read_yaml(path), str(path))
            recipe = recipe or stored
            for key, before, after in differences(stored.model_dump(), recipe.model_dump()):
                say(f"recipe changed: {key}: {_short(before)} -> {_short(after)} ({done_again([key])})")
        assert recipe is not None
        run = Run(folder, recipe)
        known = run.own
        for file, digest in _digests(recipe).items():
            if known.get(file, digest) != digest:
                say(f"{Path(file).name} changed ({done_again(own_files(recipe)[file])})")
        yield run
    finally:
        lock.release()


def _digests(recipe: Recipe) -> dict[str, str]:
    """The digests of the user code files that exist."""
    digests = {file: code_digest(file) for file in own_files(recipe)}
    return {file: digest[:SHORT] for file, digest in digests.items() if digest is not None}


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def versions() -> dict[str, str]:
    """Python and the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The processor and the cores that this process may use."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "system": platform.system()}
