# pyright: basic
# (huggingface_hub's errors depend on the HTTP client that it uses)
"""Push a folder to the Hugging Face hub. What goes wrong there is one line, in which no token ever stands."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from secondnature.types import UserError


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
    with _plain(repo):
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
def _plain(repo: str) -> Generator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # pyright: ignore[reportPrivateImportUsage]

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        reasons = {
            401: "the hub does not accept the token (expired or mistyped?): set HF_TOKEN, or run `hf auth login`",
            403: "the token may not write there: it needs write access to that owner's repositories",
            404: "there is no such owner or repository, or the token may not see it",
            429: "too many requests: wait and run the same command again",
        }
        said = _first_line(error.server_message or error)
        raise UserError(_without_token(f"push to {repo}: {reasons.get(status, said)} (HTTP {status})")) from None
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ or error
        said = f"{_first_line(error)}" + (f" ({_first_line(cause)})" if cause is not error else "")
        raise UserError(
            _without_token(f"push to {repo}: could not reach the hub or finish the upload: {said}")
        ) from None


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _without_token(text: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "[token]") if token else text
