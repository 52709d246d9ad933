"""The base model of an export: what a stranger calls it, where it is found, and under which licence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from secondnature.run import Run
from secondnature.types import UserError

# What the embedded models are copies of.
ORIGINALS = {"smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SNAPSHOT = re.compile(r"models--([^/]+)--([^/]+)/snapshots/([0-9a-f]{40})")
LICENCES = {"apache-2.0": ("Apache License", "Version 2.0"), "mit": ("MIT License", "free of charge")}
SECONDS = 10  # that the hub has to say which licence a model has


@dataclass(frozen=True, slots=True)
class Base:
    """`name` is a hub id where `on_hub`, else the name of a file or folder; `note` says what it is and how to get it."""

    name: str
    on_hub: bool
    revision: str | None
    licence: str | None
    note: str


def base_of(run: Run, given: str | None = None) -> Base:
    """The model that the adapter was trained on; `given` is its public name. Raises UserError where that is no hub id."""
    if given is not None and not HUB_ID.fullmatch(given):
        raise UserError(f"--base {given}: give a hub id as owner/name, such as HuggingFaceTB/SmolLM2-135M-Instruct")
    model = run.recipe.train.base or run.recipe.model
    found = _found(model, run)
    if given is None or given == found.name:
        return found
    note = f"{found.note} Whoever exported this says that it is the same model as `{given}` on the hub."
    return Base(given, True, None, found.licence or _hub_licence(given), note)


def _found(model: str, run: Run) -> Base:
    path = Path(model).expanduser()
    if model.startswith("bundled:"):
        name, licence = ORIGINALS[model.removeprefix("bundled:")]
        note = (
            f"It was trained and measured on a 4-bit copy of this model, written out as float32 (`{model}` of Second "
            "Nature, from the Python package index). With the original weights, answers may differ a little."
        )
        return Base(name, True, None, licence, note)
    if model.endswith(".gguf"):
        return _gguf(path)
    if path.is_dir():
        if (match := SNAPSHOT.search(str(path.resolve()))) is not None:
            name = f"{match[1]}/{match[2]}"
            return Base(name, True, match[3], folder_licence(path) or _hub_licence(name), "The model of that name.")
        note = (
            f"A folder called `{path.name}` on the machine that made this, which has no public name. Take the model from "
            "where you have it: the weights must be the same ones. Export with `--base owner/name` where it has a name."
        )
        return Base(path.name, False, None, folder_licence(path), note)
    identity: dict[str, str] = run.state.get("model") or {}
    weights = identity.get("weights", "")
    revision = weights.rpartition("@")[2] if weights.startswith(f"{model}@") else None
    note = "The model of that name on the hub" + (f", commit {revision}." if revision else ".")
    return Base(model, True, revision, _hub_licence(model), note)


def _gguf(path: Path) -> Base:
    fields = gguf_fields(path) if path.is_file() else {}
    licence = fields.get("general.license")
    origin = re.search(r"huggingface\.co/([\w.-]+/[\w.-]+)", str(fields.get("general.base_model.0.repo_url", "")))
    how = (
        f"It was trained and measured on the quantised file `{path.name}`, written out as float32 (name the same file as "
        "`model` in a recipe of Second Nature, which does so)."
    )
    if origin is not None:
        return Base(origin[1], True, None, licence, f"{how} The file says that it was made from this model.")
    note = f"{how} The file does not say which model on the hub it was made from; export with `--base owner/name` to say so."
    return Base(path.name, False, None, licence, note)


def gguf_fields(path: Path) -> dict[str, Any]:
    """What a GGUF file says about itself: the keys that begin with "general."."""
    from gguf import GGUFReader

    reader: Any = GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith("general.")}


def folder_licence(folder: Path) -> str | None:
    """The licence that a model's folder names: in its model card, or as one of the well-known texts."""
    card = folder / "README.md"
    if card.is_file() and (match := re.match(r"---\n(.*?)\n---", card.read_text("utf-8", "replace"), re.DOTALL)):
        try:
            metadata: object = yaml.safe_load(match[1])
        except yaml.YAMLError:
            metadata = None
        if isinstance(metadata, Mapping):
            licence = cast("Mapping[str, Any]", metadata).get("license")
            if isinstance(licence, str):
                return licence
    for text in (path.read_text("utf-8", "replace") for path in sorted(folder.glob("LICENSE*")) if path.is_file()):
        for name, marks in LICENCES.items():
            if all(mark in text for mark in marks):
                return name
    return None


def _hub_licence(model: str) -> str | None:
    """The licence on the model's card; None where the hub cannot be reached or does not say."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HTTPError  # pyright: ignore  (of whichever HTTP client the hub's library uses)

        card: Any = HfApi().model_info(model, timeout=SECONDS).card_data
    except (ModuleNotFoundError, HTTPError, OSError, ValueError):  # pyright: ignore
        return None
    licence = None if card is None else card.get("license")
    return licence if isinstance(licence, str) else None
