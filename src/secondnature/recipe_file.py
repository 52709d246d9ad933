"""A recipe's file: reading it, overriding its keys, saying what is wrong with it and what differs between two."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from secondnature.engines.endpoint import is_endpoint
from secondnature.recipe import UNCHANGED, HubDataset, PathChange, Recipe
from secondnature.types import UserError, nearest
from secondnature.untrusted import SHOWN, brief, cut, path_of
from secondnature.user_code import is_user_code

MOST_BYTES = 2**20  # of a recipe
MOST_VALUES = 100_000  # in a recipe, each counted as often as aliases repeat it
DEEPEST = 50  # values in values
MOST_ERRORS = 5  # that one message says
HALF = re.compile("[\ud800-\udfff]")  # of a character
# Where a key for a server is put by mistake: no message repeats what stands there.
SECRET = ("engine", "engine.api_key_env")
STAGES = ("sample", "verify", "train", "evaluate")
# The stages whose results depend on a key of the recipe: the longest key that fits decides, and all do where none does.
AGAIN: dict[str, tuple[str, ...]] = {
    "system1": ("verify", "train", "evaluate"),
    "train": ("train", "evaluate"),
    "train.save_steps": (),
    "train.report_to": (),
    "evaluate": ("evaluate",),
    "evaluate.controls": ("train", "evaluate"),
    "engine": (),
    "engine.kind": STAGES,
    "engine.dtype": STAGES,
    "engine.device": STAGES,
}


def done_again(keys: Iterable[str]) -> str:
    """What a change of these keys means for a run, to be read: the stages that are done again."""
    stages = {stage for key in keys for stage in _stages_of(key)}
    listed = ", ".join(stage for stage in STAGES if stage in stages)
    return f"done again: {listed}" if listed else "nothing is done again"


def _stages_of(key: str) -> tuple[str, ...]:
    while key not in AGAIN:
        key, dot, _ = key.rpartition(".")
        if not dot:
            return STAGES
    return AGAIN[key]


def own_files(recipe: Recipe) -> dict[str, list[str]]:
    """The files of the user's own functions, each with the keys of the recipe that name it."""
    evaluate = recipe.evaluate
    named = [
        ("technique", recipe.technique.name),
        *(("verify.perturb", name) for name in recipe.verify.perturb),
        *(("evaluate.perturb", name) for name in evaluate.perturb),
        *(("evaluate.baselines", choice.name) for choice in evaluate.baselines.values()),
    ]
    files: dict[str, list[str]] = {}
    for key, name in named:
        if is_user_code(name):
            files.setdefault(name.rpartition(":")[0], []).append(key)
    return files


# Plain values alone, by the fast loader where PyYAML has it: what looks like a date is a text.
_RESOLVED = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_LOADER: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {"yaml_implicit_resolvers": _RESOLVED})


def load_recipe(path: Path, sets: Sequence[str] = (), limit: int | None = None) -> Recipe:
    """Read a recipe, with overrides such as "train.learning_rate=1e-4"; its relative paths become absolute.

    Raises UserError, in one line, for a file that is not there, broken YAML, an unknown key (naming the nearest) or a
    value that does not fit.
    """
    values = read_yaml(path)
    for override in sets:
        _override(values, override)
    if limit is not None:
        values["limit"] = limit
    return parse_recipe(values, str(path), _absolute(path_of(str(path.parent))))


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a recipe file, unchecked. Raises UserError where it is not there or is no mapping."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a recipe")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"there is no recipe {path}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MiB: no recipe is; data goes into files of its own")
    try:
        loaded = _from_yaml(content.decode())
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{where}: broken YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys such as model, task, technique")
    return cast("dict[str, Any]", loaded)


def _from_yaml(text: str) -> object:
    """What a YAML text says. Raises YAMLError where it is none."""
    try:
        return yaml.load(text, _LOADER)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (ValueError, AttributeError, LookupError):  # of its constructors, which trust a value to be of its tag
        raise yaml.YAMLError("a value is not what it is tagged as, or is a number of thousands of digits") from None


def parse_recipe(values: Mapping[str, Any], where: str = "recipe", paths: PathChange = UNCHANGED) -> Recipe:
    """A recipe from a mapping, with its paths changed. Raises UserError as `load_recipe` does."""
    if (problem := _unusable(values)) is not None:
        raise UserError(f"{where}: {problem}")
    try:
        return Recipe.model_validate(values, context=paths)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except ValidationError as error:
        # Of a part, which is a text or a mapping, what is wrong with it as a mapping says it all.
        errors = [dict(e) for e in error.errors() if (e["type"], e["loc"][-1:]) != ("string_type", ("str",))]
        more = f"; and {len(errors) - MOST_ERRORS} more" if len(errors) > MOST_ERRORS else ""
        raise UserError(f"{where}: " + "; ".join(map(_explain, errors[:MOST_ERRORS])) + more) from None


def _unusable(values: Mapping[str, Any]) -> str | None:
    """What is in a recipe that no key takes, or that would take for ever to go through; None where nothing is."""
    found, inside = 0, [(cast("object", values), 0)]
    while inside:
        value, depth = inside.pop()
        found += 1
        if depth > DEEPEST:
            return f"values are nested more than {DEEPEST} deep, or in themselves"
        if found > MOST_VALUES:
            return f"there are more than {MOST_VALUES:,} values in it, as often as aliases repeat them"
        match value:
            case Mapping():
                below = cast("Mapping[object, object]", value)
                if (wrong := next((key for key in below if not isinstance(key, str)), None)) is not None:
                    return f"the key {brief(wrong)} is no text: write it in quotation marks"
                inside += [(part, depth + 1) for pair in below.items() for part in pair]
            case list() | tuple():
                inside += [(part, depth + 1) for part in cast("Sequence[object]", value)]
            case str() if HALF.search(value):
                return f"{brief(value)} is no text: half a character (a lone surrogate) is in it"
            case int() if abs(value) >= 2**63:
                return "a whole number in it has more than 18 digits"
            case float() if not math.isfinite(value):
                return f"{value} is a value of no key"
            case None | bool() | int() | float() | str():
                pass
            case _:
                return f"{brief(value)} is a value of no key: a {type(value).__name__}"
    return None


def _explain(error: dict[str, Any]) -> str:
    path = [part for part in error["loc"] if part != HubDataset.__name__]
    location = ".".join(cut(str(part), SHOWN) for part in path)
    if error["type"] == "extra_forbidden":
        *section, name = path
        return f"unknown key {location!r}{nearest(str(name), _keys(section)) or ': take it out'}"
    given = "" if location in SECRET else f", not {brief(error['input'])}"
    if error["type"] == "model_type" and error["loc"][-1] == HubDataset.__name__:
        return f"{location}: a file, or a dataset as {{path: ..., split: ...}}{given}"
    if error["type"] == "missing":
        return f"{location!r} is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{location}: {message[0].lower()}{message[1:]}{given}" if location else message


def _keys(section: Sequence[str | int]) -> list[str]:
    """The keys of a section of the recipe, from its path."""
    model: Any = Recipe
    for name in section:
        if isinstance(name, int):  # a place in a list of sections
            continue
        annotation = model.model_fields[name].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)


def _override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"--set takes key=value, such as train.learning_rate=1e-4, not {brief(override)}")
    *sections, name = path.strip().split(".")
    for section in sections:
        below = values.setdefault(section, {})
        if section == "task" and isinstance(below, str):
            below = values[section] = {"name": below}
        if not isinstance(below, dict):
            raise UserError(f"--set {path}: {brief(section)} is not a section of the recipe")
        values = cast("dict[str, Any]", below)
    try:
        values[name] = _from_yaml(text)
    except yaml.YAMLError:
        raise UserError(f"--set {path}: the value is not YAML") from None


def _absolute(base: Path) -> PathChange:
    """Relative paths start at `base`. What may be a name as well is a path where it is a folder, or called .gguf."""

    def path(text: str) -> str:
        return str(path_of(text, base))

    def name(text: str) -> str:
        if is_endpoint(text):
            return text
        place = path_of(text, base)
        return str(place) if text.endswith(".gguf") or place.is_dir() else text

    return PathChange(path, name)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) of all that differs between two resolved recipes."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(
                cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), f"{prefix}{key}."
            )
        elif before != after:
            yield f"{prefix}{key}", before, after
