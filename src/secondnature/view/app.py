"""The web app: pages made on the server, and one JSON answer that they ask for again while a run is going."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secondnature.report import texts
from secondnature.types import UserError
from secondnature.view import compare, queries
from secondnature.view.index import UNDECIDED, Index

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# report.html is a file that anybody may have given us: it may run its own script, but as a stranger to these pages.
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-downloads allow-modals; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _finalize(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, Markup):
        return texts.visible(value)
    return "" if value is None else value


_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"count": texts.count, "percent": texts.percent, "duration": texts.duration}


class _Number(Convertor[int]):
    """A number in an address, of as many digits as something here may have."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _Number())


class Guard:
    """Sets the headers of every answer; on loopback refuses requests that a foreign page had sent here under its own name."""

    def __init__(self, app: ASGIApp, loopback: bool):
        self.app = app
        self.loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        app = self.app
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if self.loopback and not is_loopback(_without_port(host)):
            app = PlainTextResponse("This address is not one that this view answers to.\n", 403)
        elif scope["method"] not in ("GET", "HEAD"):
            app = PlainTextResponse("Nothing can be changed here.\n", 405)
        await app(scope, receive, with_headers)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def make_app(indexes: Sequence[Index], *, loopback: bool = True) -> Starlette:
    """The app over one or two runs."""

    def page(name: str, number: int | None, **values: Any) -> Response:
        index = None if number is None else indexes[number - 1]
        values |= {"runs": [run.folder.name or str(run.folder) for run in indexes], "number": number, "path": name}
        values |= {"index": index, "base": "" if number is None else f"/{number}"}
        return HTMLResponse(_TEMPLATES.get_template(f"{name}.html.jinja").render(**values))

    def of(request: Request) -> tuple[int, Index]:
        number = int(request.path_params["run"])
        if not 1 <= number <= len(indexes):
            raise HTTPException(404)
        return number, indexes[number - 1]

    def first(request: Request) -> Response:
        return RedirectResponse("/1/" if len(indexes) == 1 else "/compare")

    def overview(request: Request) -> Response:
        number, index = of(request)
        values = {"status": queries.status(index), "figures": queries.figures(index)}
        return page("overview", number, **values, report=index.opened.run.page.exists())

    def status(request: Request) -> Response:
        return JSONResponse(queries.status(of(request)[1]))

    def report(request: Request) -> Response:
        path = of(request)[1].opened.run.page
        if not path.exists():
            raise HTTPException(404, "There is no report yet.")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})

    def train(request: Request) -> Response:
        number, index = of(request)
        state, sought = _text(request, "state"), _text(request, "q")
        listed = queries.train_list(index, state, sought, _number(request, "page"))
        return page("train", number, listed=listed, state=state, q=sought, states=index.states(), undecided=UNDECIDED)

    def vote(request: Request) -> Response:
        number, index = of(request)
        found = queries.vote(index, request.path_params["place"])
        if found is None:
            raise HTTPException(404, "There is no such training prompt.")
        rows = queries.numbers(index, found.keys)
        place, total = request.path_params["place"], len(index.opened.resolved.train)
        return page("vote", number, vote=found, rows=rows, place=place, total=total)

    def test(request: Request) -> Response:
        number, index = of(request)
        tag, cut, sought = _text(request, "tag"), _text(request, "slice"), _text(request, "q")
        listed = queries.test_list(index, tag, cut, sought, _number(request, "page"))
        tags, slices = queries.tags(index)
        return page("test", number, listed=listed, tag=tag, cut=cut, q=sought, tags=tags, slices=slices)

    def answers(request: Request) -> Response:
        number, index = of(request)
        found = queries.answered(index, request.path_params["place"])
        if found is None:
            raise HTTPException(404, "There is no such test prompt.")
        rows = queries.numbers(index, [call.key for _, _, sample, _, _ in found.systems for call in sample.trace])
        place, total = request.path_params["place"], len(index.opened.resolved.held_out)
        return page("answers", number, found=found, rows=rows, place=place, total=total)

    def calls(request: Request) -> Response:
        number, index = of(request)
        finish, sought = _text(request, "finish"), _text(request, "q")
        listed, older = queries.calls(index, finish, sought, _number(request, "before"))
        return page(
            "calls", number, calls=listed, older=older, finish=finish, q=sought, before=_number(request, "before")
        )

    def call(request: Request) -> Response:
        number, index = of(request)
        found = queries.call(index, request.path_params["call"])
        if found is None:
            raise HTTPException(404, "There is no such call in the store.")
        return page("call", number, call=found)

    def comparison(request: Request) -> Response:
        if len(indexes) != 2:
            raise HTTPException(404, "There is one run here: give the command two to compare them.")
        kind, part = _text(request, "kind"), "test" if _text(request, "part") == "test" else "train"
        differences = compare.test_differences if part == "test" else compare.train_differences
        found = differences(indexes[0], indexes[1], kind, _number(request, "page"))
        values = {"compared": found, "listed": found.listed, "kind": kind, "part": part}
        return page("compare", None, **values, figures=compare.figures(indexes[0], indexes[1]))

    def error(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        response = page("error", None, detail=problem.detail)
        response.status_code = problem.status_code
        return response

    def unusable(request: Request, problem: Exception) -> Response:
        response = page("error", None, detail=str(problem))
        response.status_code = 409  # what is there contradicts what is asked for, and the user can put it right
        return response

    def asset(request: Request) -> Response:
        return FileResponse(HERE / ("view.css" if request.path_params["kind"] == "css" else "view.js"))

    pages: list[tuple[str, Callable[[Request], Response]]] = [
        ("/", first),
        ("/compare", comparison),
        ("/view.{kind:str}", asset),
        ("/favicon.ico", lambda request: Response(status_code=204)),
        ("/{run:number}/", overview),
        ("/{run:number}/status", status),
        ("/{run:number}/report", report),
        ("/{run:number}/train", train),
        ("/{run:number}/train/{place:number}", vote),
        ("/{run:number}/test", test),
        ("/{run:number}/test/{place:number}", answers),
        ("/{run:number}/calls", calls),
        ("/{run:number}/calls/{call:number}", call),
    ]
    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in pages],
        exception_handlers={HTTPException: error, UserError: unusable},
    )
    app.add_middleware(Guard, loopback=loopback)
    return app


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:500]


def _number(request: Request, name: str) -> int:
    """A number that a page was asked for with; 0 where it is none."""
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


@contextmanager
def listening(host: str, port: int) -> Any:
    """A socket that listens. Raises UserError where the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family, backlog=128) as server:
            yield server
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port} ({error.strerror}): choose another --port") from None


def serve(folders: Sequence[Path], host: str, port: int, say: Callable[[str], None]) -> None:
    """Show one or two runs until interrupted."""
    indexes = [Index(folder) for folder in folders]
    with listening(host, port) as server:
        loopback = is_loopback(host)
        if not loopback:
            say(f"warning: whoever reaches {host} can read these runs: there is no password")
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{server.getsockname()[1]}/  (Ctrl-C ends it)")
        for index in indexes:
            index.start()
        config = uvicorn.Config(
            make_app(indexes, loopback=loopback),
            log_level="warning",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        try:
            uvicorn.Server(config).run(sockets=[server])
        finally:
            for index in indexes:
                index.stop()
