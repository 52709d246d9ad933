# pyright: basic
# (huggingface_hub's errors depend on the HTTP client that it uses)
"""What the Hugging Face hub is asked and given: the base model's public name and licence, and folders pushed to it."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from secondnature.engines.models import PublicName, gguf_fields, public_name
from secondnature.run import Run
from secondnature.types import UserError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
EMBEDDED_LICENCE = "apache-2.0"
LICENCES = {"apache-2.0": ("Apache License", "Version 2.0"), "mit": ("MIT License", "free of charge")}
SECONDS = 10  # that the hub has to tell a model's licence
REFUSED = {
    401: "the hub does not accept the token (expired or mistyped?): set HF_TOKEN, or run `hf auth login`",
    403: "the token may not write there: it needs write access to that owner's repositories",
    404: "there is no such owner or repository, or the token may not see it",
    429: "too many requests: wait and run the same command again",
}


@dataclass(frozen=True, slots=True)
class Base:
    """The base model of an export: its public name, its licence, and a note that says what it is and how to get it."""

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
    public = public_name(model, identity.get("weights", ""))
    licence, note = _described(model, public)
    if given is None or given == public.name:
        return Base(public, licence, note)
    note = f"{note} Whoever exported this says that it is the same model as `{given}` on the hub."
    return Base(PublicName(given, True), licence or _hub_licence(given), note)


def _described(model: str, public: PublicName) -> tuple[str | None, str]:
    """The licence of the base, and what it is."""
    path = Path(model).expanduser()
    if model.startswith("bundled:"):
        return EMBEDDED_LICENCE, (
            f"It was trained and measured on a 4-bit copy of this model, written out as float32 (`{model}` of Second "
            "Nature, from the Python package index). With the original weights, answers may differ a little."
        )
    if model.endswith(".gguf"):
        origin = (
            "The file says that it was made from this model."
            if public.on_hub
            else "The file does not say which model on the hub it was made from; export with `--base owner/name` to say so."
        )
        return (gguf_fields(path) if path.is_file() else {}).get("general.license"), (
            f"It was trained and measured on the quantised file `{path.name}`, written out as float32 (name the same file as "
            f"`model` in a recipe of Second Nature, which does so). {origin}"
        )
    licence = folder_licence(path) if path.is_dir() else None
    if not public.on_hub:
        return licence, (
            f"A folder called `{public.name}` on the machine that made this, which has no public name. Take the model from "
            "where you have it: the weights must be the same ones. Export with `--base owner/name` where it has a name."
        )
    commit = f", commit {public.revision}" if public.revision else ""
    return licence or _hub_licence(public.name), f"The model of that name on the hub{commit}."


def folder_licence(folder: Path) -> str | None:
    """The licence that a model's folder names: in its model card, or as one of the well-known texts."""
    from huggingface_hub import metadata_load

    try:
        licence = (metadata_load(folder / "README.md") or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):
        licence = None
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
        from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

        card: Any = HfApi().model_info(model, timeout=SECONDS).card_data
    except (ModuleNotFoundError, HTTPError, OSError, ValueError):
        return None
    licence = None if card is None else card.get("license")
    return licence if isinstance(licence, str) else None


def check_can_push(*repos: str | None) -> None:
    """Raises UserError where there is no token or a repository's name cannot be one: known before anything is made."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    for repo in filter(None, repos):
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            raise UserError(f"{repo!r} cannot be a repository's name: {_first_line(error)}") from None
        if "/" not in repo:
            raise UserError(f"{repo!r}: name the repository as owner/name")
    if not get_token():
        raise UserError("pushing needs a token: set HF_TOKEN, or run `hf auth login` (huggingface.co/settings/tokens)")


def push(
    folder: Path, repo: str, *, private: bool, repo_type: Literal["model", "dataset"], ignore: Sequence[str] = ()
) -> str:
    """Make the repository where there is none, and upload the folder in one commit; returns its address.

    Raises UserError where the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _plain_errors(f"push to {repo}: "):
        url = str(api.create_repo(repo, private=private, repo_type=repo_type, exist_ok=True))
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type=repo_type,
            ignore_patterns=list(ignore),
            commit_message="Export of a Second Nature run",
        )
    return url


@contextmanager
def _plain_errors(what: str) -> Generator[None]:
    """Errors of the hub as one line."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = REFUSED.get(status, _first_line(error.server_message or error))
        raise UserError(f"{what}{reason} (HTTP {status})") from None
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        cause = f" ({_first_line(error.__cause__)})" if error.__cause__ is not None else ""
        raise UserError(f"{what}could not reach the hub or finish the upload: {_first_line(error)}{cause}") from None


def _first_line(error: object) -> str:
    """The first line of what an error says, without the token that may stand in it."""
    from huggingface_hub import get_token

    token, text = get_token(), str(error).strip()
    return ((text.replace(token, "[token]") if token else text).splitlines() or [type(error).__name__])[0]
