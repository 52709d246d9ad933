"""A connection to an OpenAI-compatible server: one exchange at a time, its errors sorted into passing and final ones."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import httpx

from secondnature.engines.http_pace import backoff, retry_after
from secondnature.engines.http_reply import Again, Refused, error_text, one_line, read_models
from secondnature.types import UserError

SHOWN = 200  # characters of a server's own words
HIDDEN = 8  # characters from which a key is a secret; a shorter one is a placeholder such as "EMPTY"
LONGEST_WAIT = 900.0  # seconds that a server may ask to wait for; beyond, the user decides
OPENING = 60.0  # seconds for an exchange that draws nothing
OVERLOADED = (429, 503, 504)
PASSING = (408, 409, 425, *OVERLOADED)


class Connection:
    """A server's address, the key for it, and how it is talked to. The key is in no message and no representation."""

    def __init__(self, url: str, key: str, key_variable: str, max_retries: int):
        self.url = url
        self._key = key
        self._key_variable = key_variable
        self._max_retries = max_retries
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=None,  # an exchange has one as a whole, which a server that drips cannot stretch
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def models(self) -> dict[str, Mapping[str, Any]]:
        """What the server says about the models that it serves, by name. Raises UserError where it cannot be used."""
        tries = 0
        while True:
            tries += 1
            try:
                return read_models(await self.exchange("models", None, OPENING))
            except Again as again:
                if tries > self._max_retries or isinstance(again.__cause__, httpx.ConnectError):
                    raise UserError(f"{self.problem(again)}: is the server running, and is this its address?") from None
                await asyncio.sleep(min(again.after or backoff(tries), LONGEST_WAIT))

    async def exchange(self, path: str, body: Mapping[str, Any] | None, timeout: float) -> bytes:
        """One request, one response's body. Raises Again for what may pass, and Refused for what will not."""
        try:
            async with asyncio.timeout(timeout):
                response = await self._client.request(
                    "GET" if body is None else "POST", f"{self.url}/{path}", json=body
                )
        except TimeoutError:
            raise Again(f"no reply within {timeout:g} s", overloaded=True) from None
        except httpx.RequestError as error:
            raise Again(one_line(f"{type(error).__name__}: {error}")) from error
        status = response.status_code
        if status == 200:
            return response.content
        words = f"HTTP {status}: {error_text(response.content)}"
        if status in PASSING or status >= 500:
            raise Again(words, after=retry_after(response.headers), overloaded=status in OVERLOADED)
        raise Refused(f"{self.url} refused a request ({self.public(words)}){self._advice(status, words)}")

    def _advice(self, status: int, words: str) -> str:
        variable = self._key_variable
        if status in (401, 403):
            return (
                f": is the key in the environment variable {variable} right?"
                if self._key
                else f": set {variable}; to a host that is not its own it is sent with --trust"
            )
        if status in (400, 413, 422) and re.search("context|length|too long|max_tokens", words):
            return ": shorten the prompt, or lower sampling.max_tokens"
        return ": does the address end as the server's API does, in /v1?" if status == 404 else ""

    def problem(self, again: Again) -> str:
        return f"{self.url} failed ({self.public(str(again))})"

    def public(self, text: str) -> str:
        """What may be shown of a server's words: little, and never the key."""
        line = one_line(text.replace(self._key, "[key]") if len(self._key) >= HIDDEN else text)
        return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."
