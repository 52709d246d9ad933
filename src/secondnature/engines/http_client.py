"""The client of an OpenAI-compatible server: one request, bounded in time and size; and how fast to send them.

aiohttp, because of its cost: 0.3 ms of CPU for a request where httpx takes 5 to 7
(`benchmarks/endpoint.py --cpu`) and the openai client 2.6 to 4.2 (`docs/log.md`).
"""

import asyncio
import json
import os
import random
import re
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi

from secondnature.engines.http_reply import RequestRejected, RetryableError, error_text, one_line, read_models
from secondnature.types import UserError

MAX_SHOWN = 200  # characters of a server's own words
MIN_SECRET = 8  # characters from which a key is a secret; a shorter one is a placeholder such as "EMPTY"
MAX_WAIT = 900.0  # seconds that a server may ask to wait for; beyond, the user decides
MODELS_TIMEOUT = 120.0  # seconds that a server may take, over all tries, to list its models
MODELS_TRY_TIMEOUT = 30.0  # of them for one try
NOTICES_AFTER = (10.0, 30.0, 60.0)  # seconds of waiting for the list after which a line tells the user
REPLY_BYTES = 2**20  # of a reply, beside what its tokens take
TOKEN_BYTES = {False: 128, True: 1024}  # a token at most, on average: without and with log-probabilities
MODELS_BYTES = 2**24  # of the list of models
HEADER_BYTES = 2**16  # of a line of a response's head
COMPRESSIONS = ("gzip", "x-gzip", "deflate")
OVERLOADED = (429, 503, 504)
RETRYABLE = (408, 409, 425, *OVERLOADED)

FIRST_WAIT = 0.5  # seconds; doubles with every try
MAX_BACKOFF = 60.0
GROWTH = 4  # times the first limit that the limit may become
DECREASE = 0.85  # what is left of the limit when the server is overloaded
SLOW = 2.0  # times the lowest latency at which more at once would only queue at the server
CAUTION = 0.1  # of the usual growth, near the limit at which the server last refused


class Client:
    """A server's address, the key for it, and how it is talked to. The key is in no message and no representation.

    Made anywhere, used and closed in one event loop.
    """

    def __init__(
        self, url: str, key: str, key_variable: str, max_retries: int, say: Callable[[str], None] = lambda line: None
    ):
        self.url = url
        self._say = say
        self._key = key
        self._key_variable = key_variable
        self._max_retries = max_retries
        self._session: aiohttp.ClientSession | None = None
        self._proxy = _proxy(url)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=_tls() if self.url.lower().startswith("https:") else True),
                timeout=aiohttp.ClientTimeout(
                    total=None
                ),  # a request has one as a whole: a slow drip cannot stretch it
                auto_decompress=False,  # it would decompress without bounds
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def models(self) -> dict[str, Mapping[str, Any]]:
        """What the server says about the models that it serves, by name. Raises UserError where it cannot be used."""
        loop, begun = asyncio.get_running_loop(), time.monotonic()
        wait = f"waiting for {self.url} to say which models it has (GET /models), at most {MODELS_TIMEOUT:g} s"
        notices = [loop.call_later(after, self._say, f"{wait}; {after:g} s so far") for after in NOTICES_AFTER]
        tries = 0
        try:
            while True:
                tries += 1
                left = MODELS_TIMEOUT - (time.monotonic() - begun)
                try:
                    return read_models(await self.send("models", None, min(MODELS_TRY_TIMEOUT, left), MODELS_BYTES))
                except RetryableError as again:
                    left = MODELS_TIMEOUT - (time.monotonic() - begun)
                    pause = backoff(tries) if again.after is None else again.after
                    no_more = tries > self._max_retries or isinstance(again.__cause__, aiohttp.ClientConnectorError)
                    if no_more or pause >= left:
                        asks = f", and asks to wait {again.after:.0f} s" if again.after else ""
                        raise UserError(
                            f"{self.problem(again)}{asks}: is the server running, and is this its address?"
                        ) from None
                    await asyncio.sleep(pause)
        finally:
            for notice in notices:
                notice.cancel()

    async def send(
        self, path: str, body: Mapping[str, Any] | None, timeout: float, max_bytes: int = REPLY_BYTES
    ) -> bytes:
        """One request (a POST where it has a `body`), one response's body of at most `max_bytes`.

        Raises RetryableError for what may pass, and RequestRejected for what will not.
        """
        headers = {"Accept-Encoding": "gzip", "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            async with (
                asyncio.timeout(timeout),
                self._opened().request(
                    "GET" if data is None else "POST",
                    f"{self.url}/{path}",
                    data=data,
                    headers=headers,
                    proxy=self._proxy,
                    allow_redirects=False,
                ) as response,
            ):
                content, complete = await _content(response, max_bytes)
        except TimeoutError:
            raise RetryableError(f"no reply within {timeout:.3g} s", overloaded=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise RetryableError(_connection_problem(error)) from error
        status = response.status
        if status == 200 and not complete:
            raise RequestRejected(
                f"{self.url} sent more than {max_bytes / 2**20:.0f} MiB at once, which no answer to /{path} is"
            )
        if status == 200:
            return content
        if "location" in response.headers and 300 <= status < 400:
            there = self.public(response.headers["location"].removesuffix(f"/{path}"))
            raise RequestRejected(f"{self.url} redirects (HTTP {status}) to {there}: name the final address")
        words = f"HTTP {status}: {error_text(content)}"
        if status in RETRYABLE or status >= 500:
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
        line = one_line(text.replace(self._key, "[key]") if len(self._key) >= MIN_SECRET else text)
        return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 3] + "..."


def max_reply_bytes(tokens: int, *, logprobs: bool) -> int:
    """How large a reply of so many tokens can be."""
    return REPLY_BYTES + tokens * TOKEN_BYTES[logprobs]


async def _content(response: aiohttp.ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
    """The body, decompressed, and whether that is all of it: no more than `max_bytes` are kept."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", *COMPRESSIONS):
        raise RetryableError(f"a reply packed as {one_line(encoding)}, which was not asked for")
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding in COMPRESSIONS else None
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        try:
            part = chunk if decompressor is None else decompressor.decompress(chunk, max_bytes - size + 1)
        except zlib.error as error:
            raise RetryableError(f"a reply that cannot be unpacked ({error})") from None
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            return b"".join(parts)[:max_bytes], False
    return b"".join(parts), True


def _connection_problem(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return one_line(f"the server's TLS certificate is not trusted: {error.certificate_error}")
    if isinstance(error, aiohttp.ClientConnectorError):
        return one_line(f"cannot connect: {error.strerror or error.os_error}")
    return one_line(f"{type(error).__name__}: {error}")


def _proxy(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a server; ~/.netrc is not looked at.

    Raises UserError, which never repeats the address since a password may be in it, for one that is not an HTTP proxy.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme.lower()) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.lower().startswith(("http://", "https://")):
        raise UserError(
            f"{url}: the environment names a proxy for it that is not an HTTP proxy; NO_PROXY exempts a host"
        )
    return proxy


def _tls() -> ssl.SSLContext:
    """Trusts the certificates that SSL_CERT_FILE or SSL_CERT_DIR name, otherwise the system's and certifi's."""
    context = ssl.create_default_context()
    if not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(os.environ):
        context.load_verify_locations(certifi.where())
    return context


def backoff(tries: int) -> float:
    """Seconds to wait after the `tries`-th failure: exponential, with full jitter."""
    return random.uniform(0, min(MAX_BACKOFF, FIRST_WAIT * 2 ** (tries - 1)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as an HTTP date; None without a readable one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class AdaptiveConcurrency:
    """How many replies may be in flight: additive increase, multiplicative decrease.

    Grows by one with every `limit` replies while the latency stays near its lowest, and falls when the server says that
    it is overloaded or does not answer in time, once for all requests that were sent before it fell. Near the limit at
    which that last happened it grows slowly, so that a server with a fixed number of slots stays nearly full.
    """

    def __init__(self, first: int):
        self.limit = float(first)
        self.first = first
        self.most = GROWTH * first
        self._edge = float(self.most)
        self._cut_at = float("-inf")
        self._replies = 0
        self._latency = 0.0
        self._lowest = float("inf")

    def overloaded(self, sent: float, now: float) -> None:
        """A request sent at `sent` found the server overloaded, or no answer."""
        if sent >= self._cut_at:
            self._edge, self._cut_at = self.limit, now
            self.limit = max(1.0, self.limit * DECREASE)

    def succeeded(self, replies: int, seconds: float, *, full: bool) -> None:
        """A request brought `replies` after `seconds`; `full` where all of the limit was in use."""
        self._replies += replies
        share = replies / max(self.limit, replies)
        self._latency += (seconds - self._latency) * max(share, replies / self._replies)
        if self._replies >= 2 * self.limit:  # before, the fast ones are over-represented
            self._lowest = min(self._lowest, self._latency)
        if self._latency > SLOW * self._lowest:
            if self.limit > self.first:
                self.limit = max(float(self.first), self.limit - share)
        elif full:
            near = 0.95 * self._edge <= self.limit <= 1.25 * self._edge
            self.limit = min(float(self.most), self.limit + share * (CAUTION if near else 1.0))
