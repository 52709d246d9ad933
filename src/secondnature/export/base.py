"""The base model of an export: what a stranger calls it, where it is found, and under which licence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from secondnature.engines.models import PublicName, gguf_fields, public_name
from secondnature.run import Run
from secondnature.types import UserError

LICENCE = "apache-2.0"  # of the embedded models
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
LICENCES = {"apache-2.0": ("Apache License", "Version 2.0"), "mit": ("MIT License", "free of charge")}
SECONDS = 10  # that the hub has to say which licence a model has


@dataclass(frozen=True, slots=True)
class Base:
    """The model that an export needs: what others call it, its licence, and a note that says what it is and how to get it."""

    public: PublicName
    licence: str | None
    note: str

    @property
    def name(self) -> str:
        return self.public.name


def base_of(run: Run, given: str | None = None) -> Base:
    """The model that the adapter was trained on; `given` is its public name. Raises UserError where that is no hub id."""
    if given is not None and not HUB_ID.fullmatch(given):
        raise UserError(f"--base {given}: give a hub id as owner/name, such as HuggingFaceTB/SmolLM2-135M-Instruct")
    model = run.recipe.train.base or run.recipe.model
    identity: dict[str, str] = run.state.get("model") or {}
    found = _described(model, public_name(model, identity.get("weights", "")))
    if given is None or given == found.name:
        return found
    note = f"{found.note} Whoever exported this says that it is the same model as `{given}` on the hub."
    return Base(PublicName(given, True), found.licence or _hub_licence(given), note)


def _described(model: str, public: PublicName) -> Base:
    path = Path(model).expanduser()
    if model.startswith("bundled:"):
        note = (
            f"It was trained and measured on a 4-bit copy of this model, written out as float32 (`{model}` of Second "
            "Nature, from the Python package index). With the original weights, answers may differ a little."
        )
        return Base(public, LICENCE, note)
    if model.endswith(".gguf"):
        licence = (gguf_fields(path) if path.is_file() else {}).get("general.license")
        how = (
            f"It was trained and measured on the quantised file `{path.name}`, written out as float32 (name the same file as "
            "`model` in a recipe of Second Nature, which does so)."
        )
        origin = (
            "The file says that it was made from this model."
            if public.on_hub
            else "The file does not say which model on the hub it was made from; export with `--base owner/name` to say so."
        )
        return Base(public, licence, f"{how} {origin}")
    if not public.on_hub:
        note = (
            f"A folder called `{public.name}` on the machine that made this, which has no public name. Take the model from "
            "where you have it: the weights must be the same ones. Export with `--base owner/name` where it has a name."
        )
        return Base(public, folder_licence(path) if path.is_dir() else None, note)
    commit = f", commit {public.revision}." if public.revision else "."
    licence = folder_licence(path) if path.is_dir() else None
    return Base(public, licence or _hub_licence(public.name), f"The model of that name on the hub{commit}")


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
