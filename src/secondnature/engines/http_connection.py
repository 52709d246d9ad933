"""A connection to an OpenAI-compatible server: one exchange at a time, its errors sorted into passing and final ones."""

import asyncio
import re
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from secondnature.engines.http_pace import backoff, retry_after
from secondnature.engines.http_reply import RequestRejected, RetryableError, error_text, one_line, read_models
from secondnature.types import UserError

SHOWN = 200  # characters of a server's own words
HIDDEN = 8  # characters from which a key is a secret; a shorter one is a placeholder such as "EMPTY"
LONGEST_WAIT = 900.0  # seconds that a server may ask to wait for; beyond, the user decides
OPENING = 120.0  # seconds that a server may take, over all tries, to say what models it has
EXCHANGE = 30.0  # of them for one try
SAID_AFTER = (10.0, 30.0, 60.0)  # of them, when it is said that they are waited for
MOST_BYTES = 2**20  # of a reply, beside what its tokens take
BYTES = {False: 128, True: 1024}  # a token at most, on average: without and with log-probabilities
MODELS_BYTES = 2**24  # of the list of models
UNPACKED = ("gzip", "x-gzip", "deflate")
OVERLOADED = (429, 503, 504)
PASSING = (408, 409, 425, *OVERLOADED)


class Connection:
    """A server's address, the key for it, and how it is talked to. The key is in no message and no representation."""

    def __init__(
        self, url: str, key: str, key_variable: str, max_retries: int, say: Callable[[str], None] = lambda line: None
    ):
        self.url = url
        self._say = say
        self._key = key
        self._key_variable = key_variable
        self._max_retries = max_retries
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "gzip"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=None,  # an exchange has one as a whole, which a server that drips cannot stretch
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def models(self) -> dict[str, Mapping[str, Any]]:
        """What the server says about the models that it serves, by name. Raises UserError where it cannot be used."""
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        wait = f"waiting for {self.url} to say which models it has (GET /models), at most {OPENING:g} s"
        said = [loop.call_later(after, self._say, f"{wait}; {after:g} s so far") for after in SAID_AFTER]
        tries = 0
        try:
            while True:
                tries += 1
                left = OPENING - (time.monotonic() - begun)
                try:
                    return read_models(await self.exchange("models", None, min(EXCHANGE, left), MODELS_BYTES))
                except RetryableError as again:
                    left = OPENING - (time.monotonic() - begun)
                    pause = backoff(tries) if again.after is None else again.after
                    no_more = tries > self._max_retries or isinstance(again.__cause__, httpx.ConnectError)
                    if no_more or pause >= left:
                        asks = f", and asks to wait {again.after:.0f} s" if again.after else ""
                        raise UserError(
                            f"{self.problem(again)}{asks}: is the server running, and is this its address?"
                        ) from None
                    await asyncio.sleep(pause)
        finally:
            for line in said:
                line.cancel()

    async def exchange(
        self, path: str, body: Mapping[str, Any] | None, timeout: float, most: int = MOST_BYTES
    ) -> bytes:
        """One request, one response's body, of at most `most` bytes.

        Raises Again for what may pass, and Refused for what will not.
        """
        try:
            async with (
                asyncio.timeout(timeout),
                self._client.stream("GET" if body is None else "POST", f"{self.url}/{path}", json=body) as response,
            ):
                content, whole = await _content(response, most)
        except TimeoutError:
            raise RetryableError(f"no reply within {timeout:.3g} s", overloaded=True) from None
        except httpx.RequestError as error:
            raise RetryableError(one_line(f"{type(error).__name__}: {error}")) from error
        status = response.status_code
        if status == 200 and not whole:
            raise RequestRejected(
                f"{self.url} sent more than {most / 2**20:.0f} MiB at once, which no answer to /{path} is"
            )
        if status == 200:
            return content
        if "location" in response.headers and 300 <= status < 400:
            there = self.public(response.headers["location"].removesuffix(f"/{path}"))
            raise RequestRejected(f"{self.url} redirects (HTTP {status}) to {there}: name the final address")
        words = f"HTTP {status}: {error_text(content)}"
        if status in PASSING or status >= 500:
            raise RetryableError(words, after=retry_after(response.headers), overloaded=status in OVERLOADED)
        raise RequestRejected(f"{self.url} refused a request ({self.public(words)}){self._advice(status, words)}")

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

    def problem(self, again: RetryableError) -> str:
        return f"{self.url} failed ({self.public(str(again))})"

    def public(self, text: str) -> str:
        """What may be shown of a server's words: little, and never the key."""
        line = one_line(text.replace(self._key, "[key]") if len(self._key) >= HIDDEN else text)
        return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."


def most_bytes(tokens: int, *, logprobs: bool) -> int:
    """How large a reply of so many tokens can be."""
    return MOST_BYTES + tokens * BYTES[logprobs]


async def _content(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """The body, and whether that is all of it: no more than `most` bytes are kept, and unpacked."""
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity", *UNPACKED):
        raise RetryableError(f"a reply packed as {one_line(packed)}, which was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed in UNPACKED else None
    parts: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        try:
            part = chunk if unpack is None else unpack.decompress(chunk, most - size + 1)
        except zlib.error as error:
            raise RetryableError(f"a reply that cannot be unpacked ({error})") from None
        parts.append(part)
        size += len(part)
        if size > most:
            return b"".join(parts)[:most], False
    return b"".join(parts), True
