"""A server that says nothing, too much, or sends elsewhere: waiting is said and ends, and what is too large is not read."""

import gzip
import json
import shutil
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from conftest import Finished
from secondnature.engines import http, http_client
from secondnature.engines.endpoint import HTTPOptions
from secondnature.engines.http import HTTPEngine
from secondnature.types import UserError
from test_http import replies, warm

Recipes = Callable[..., Path]
Cli = Callable[..., Finished]
MODELS = {"data": [{"id": "small"}]}
Answer = tuple[int, dict[str, str], bytes]


class Server(ThreadingHTTPServer):
    """Answers GET by `models` and POST by `chat`."""

    daemon_threads = True
    models: Callable[[], Answer]
    chat: Callable[[], Answer]
    packs: list[str | None]
    authorizations: list[str | None]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(self.server.models)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(self.server.chat)

    def answer(self, make: Callable[[], Answer]) -> None:
        self.server.packs.append(self.headers["Accept-Encoding"])
        self.server.authorizations.append(self.headers["Authorization"])
        status, headers, body = make()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as started:
        started.packs, started.authorizations = [], []
        started.models = lambda: (200, {}, json.dumps(MODELS).encode())
        started.chat = lambda: (200, {}, completion("The answer is: yes"))
        thread = threading.Thread(target=started.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield started
        started.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def completion(text: str) -> bytes:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()


def opened(url: str, said: list[str], **options: Any) -> HTTPEngine:
    return HTTPEngine(f"{url}#small", HTTPOptions(**{"max_retries": 2, "timeout": 5.0, **options}), said.append)


# --- waiting


def test_the_waits_are_short_enough_to_sit_through() -> None:
    assert http_client.NOTICES_AFTER[0] <= 30
    assert http_client.MODELS_TRY_TIMEOUT <= 30
    assert http_client.MODELS_TIMEOUT <= 180
    assert http.SILENCE <= 30


def test_models_that_are_never_said_are_waited_for_with_a_word_and_an_end(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "MODELS_TIMEOUT", 0.6)
    monkeypatch.setattr(http_client, "MODELS_TRY_TIMEOUT", 0.25)
    monkeypatch.setattr(http_client, "NOTICES_AFTER", (0.1, 0.3, 60.0))
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.01)
    said: list[str] = []
    started = time.monotonic()
    with pytest.raises(UserError, match=r"no reply within 0\.\d+ s.*is the server running"):
        opened(silent, said, max_retries=50)
    assert time.monotonic() - started < 2
    assert [f"waiting for {silent}" in line and "GET /models" in line for line in said] == [True, True]


def test_a_server_that_asks_to_wait_for_its_models_for_hours_is_not_waited_for(server: Server) -> None:
    server.models = lambda: (503, {"Retry-After": "99999"}, b"loading")
    started = time.monotonic()
    with pytest.raises(UserError, match="HTTP 503: loading.*asks to wait 99999 s"):
        opened(server.url, [])
    assert time.monotonic() - started < 2


def test_a_wait_that_a_server_asks_for_is_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "NOTICED_WAIT", 0.05)
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.01)
    answers = iter([(429, {"Retry-After": "0.2"}, b"slow down")])
    server.chat = lambda: next(answers, (200, {}, completion("yes")))
    said: list[str] = []
    replies(opened(server.url, said), warm(1))
    [line] = said
    assert "HTTP 429: slow down" in line
    assert "asks to wait" in line


def test_a_server_that_falls_silent_is_said_and_less_and_less_often(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SILENCE", 0.1)
    end = threading.Event()

    def slow() -> Answer:
        end.wait(1.0)
        return 200, {}, completion("yes")

    server.chat = slow
    said: list[str] = []
    [reply] = replies(opened(server.url, said), warm(1))
    assert reply.text == "yes"
    assert 2 <= len(said) <= 4
    assert all(f"{server.url}: no reply for" in line and "at most 5 s" in line for line in said)


# --- sizes


@pytest.mark.parametrize("packed", ["", "gzip", "deflate"])
def test_a_reply_that_no_max_tokens_allows_is_not_read(server: Server, packed: str) -> None:
    body = completion("x" * 60_000_000)
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}.get(packed, bytes)
    packed_body = pack(body)
    server.chat = lambda: (200, {"Content-Encoding": packed} if packed else {}, packed_body)
    with pytest.raises(UserError, match=r"sent more than 1 MiB at once"):
        replies(opened(server.url, []), warm(1))


def test_a_list_of_models_without_end_is_not_read(server: Server) -> None:
    body = gzip.compress(b"[" * 100_000_000)
    server.models = lambda: (200, {"Content-Encoding": "gzip"}, body)
    with pytest.raises(UserError, match="sent more than 16 MiB at once"):
        opened(server.url, [])


def test_packed_replies_are_read_and_other_packing_is_named(server: Server) -> None:
    server.chat = lambda: (200, {"Content-Encoding": "gzip"}, gzip.compress(completion("yes")))
    [reply] = replies(opened(server.url, []), warm(1))
    assert reply.text == "yes"
    assert set(server.packs) == {"gzip"}
    server.chat = lambda: (200, {"Content-Encoding": "br"}, b"x")
    with pytest.raises(UserError, match="packed as br"):
        replies(opened(server.url, [], max_retries=0), warm(1))
    server.chat = lambda: (200, {"Content-Encoding": "gzip"}, b"x" * 100)
    with pytest.raises(UserError, match="cannot be unpacked"):
        replies(opened(server.url, [], max_retries=0), warm(1))


def test_nothing_of_a_reply_that_is_too_large_is_stored(
    server: Server, recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    server.chat = lambda: (200, {}, completion("x" * 3_000_000))
    file = recipe(model=f"{server.url}#small", engine={"kind": "http"}, sampling={"max_tokens": 16})
    done = cli("sample", tmp_path / "run", "--recipe", file, "--quiet")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "sent more than 1 MiB at once" in line
    with closing(sqlite3.connect(tmp_path / "run" / "calls.sqlite")) as db:
        assert db.execute("SELECT COUNT(*) FROM calls").fetchone() == (0,)


# --- redirects


def test_a_redirect_is_named_with_its_address(server: Server) -> None:
    server.models = lambda: (308, {"Location": "https://elsewhere.example/v1/models"}, b"")
    with pytest.raises(UserError, match=r"redirects \(HTTP 308\) to https://elsewhere.example/v1: name the final"):
        opened(server.url, [])
    server.models = lambda: (200, {}, json.dumps(MODELS).encode())
    server.chat = lambda: (302, {"Location": "/login?next=" + "x" * 900}, b"")
    with pytest.raises(UserError, match=r"redirects \(HTTP 302\) to /login") as end:
        replies(opened(server.url, []), warm(1))
    assert len(str(end.value)) < 500


# --- connections


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_is_checked_and_one_of_the_users_own_can_be_trusted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"), "-days", "2"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with pytest.raises(UserError, match="certificate is not trusted: .*self-signed"):
        opened(url, [])
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert replies(opened(url, []), warm(1))[0].text == "The answer is: yes"


def test_a_server_has_an_ipv6_address() -> None:
    class Six(Server):
        address_family = socket.AF_INET6

    try:
        server = Six(("::1", 0), Handler)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        server.packs, server.authorizations = [], []
        server.models = lambda: (200, {}, json.dumps(MODELS).encode())
        server.chat = lambda: (200, {}, completion("yes"))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert replies(opened(f"http://[::1]:{server.server_address[1]}/v1", []), warm(1))[0].text == "yes"
        server.shutdown()


def test_the_environments_proxy_is_used_and_its_netrc_is_not(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine model.example login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert replies(opened("http://model.example/v1", []), warm(1))[0].text == "The answer is: yes"
    assert set(server.authorizations) == {None}
    server.authorizations.clear()
    replies(opened(server.url, []), warm(1))
    monkeypatch.setenv("http_proxy", "socks5://me:hunter2@127.0.0.1:1")
    with pytest.raises(UserError, match="not an HTTP proxy") as refusal:
        opened("http://model.example/v1", [])
    assert "hunter2" not in str(refusal.value)
