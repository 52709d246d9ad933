"""What must not leave this machine: its paths, an endpoint's address, keys. They are taken out of every exported text."""

import html
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from secondnature.engines.endpoint import is_endpoint, parse_endpoint
from secondnature.engines.models import cache_folder
from secondnature.recipe import PathChange, Recipe
from secondnature.recipe_file import parse_recipe
from secondnature.run import Run

SHORTEST_KEY = 8  # a shorter value of a key's variable is no key, and may be a word of the text
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True, slots=True)
class Redactor:
    """Pairs of what is replaced and by what, longest first."""

    pairs: tuple[tuple[str, str], ...]

    def text(self, text: str) -> str:
        for old, new in self.pairs:
            text = text.replace(old, new)
            if (escaped := html.escape(old)) != old:
                text = text.replace(escaped, html.escape(new))
        return text

    def value(self, value: Any) -> Any:
        """The same of all texts in a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            items = cast("Mapping[str, Any]", value)
            return {self.text(key): self.value(below) for key, below in items.items()}
        if isinstance(value, list):
            return [self.value(below) for below in cast("list[Any]", value)]
        return value


def cleaner(run: Run) -> Redactor:
    """What to take out of the texts of `run`: paths become names of files, without the folders that they are in."""
    found: dict[str, str] = {}
    for path in (*paths_of(run.recipe), str(run.folder.resolve()), str(cache_folder().resolve())):
        if Path(path).is_absolute():
            found[path] = Path(path).name
            if len(Path(path).parts) > 3:  # a folder just below the root is too short to be taken out of every text
                found.setdefault(f"{Path(path).parent}/", "")
    found.setdefault(f"{Path.home()}/", "~/")
    if is_endpoint(run.recipe.model):
        found[parse_endpoint(run.recipe.model).url] = "http://endpoint/v1"
    for variable in (run.recipe.engine.api_key_env, *TOKENS):
        if len(key := os.environ.get(variable, "").strip()) >= SHORTEST_KEY:
            found[key] = "[removed]"
    return Redactor(tuple(sorted(found.items(), key=lambda pair: -len(pair[0]))))


def paths_of(recipe: Recipe) -> list[str]:
    """The texts of a recipe that are paths, or may be."""
    found: list[str] = []

    def see(text: str) -> str:
        found.append(text)
        return text

    parse_recipe(recipe.model_dump(exclude_none=True), paths=PathChange(see, see))
    return found


def data_of(recipe: Recipe) -> Iterator[str]:
    """Files and datasets that the prompts come from, as the recipe names them."""
    if recipe.data is not None:
        parts = (recipe.data.train, recipe.data.dev, recipe.data.test)
        yield from (part if isinstance(part, str) else part.path for part in parts if part is not None)
    if recipe.task is not None:
        yield from _sources(recipe.task.options.get("data"))


def _sources(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        parts = cast("Mapping[str, Any]", data)
        for value in [parts["path"]] if "path" in parts else parts.values():
            yield from _sources(value)
