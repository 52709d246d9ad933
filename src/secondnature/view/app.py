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
from secondnature.report.outcomes import OUTCOMES
from secondnature.systems import SystemId
from secondnature.types import UserError
from secondnature.view import compare
from secondnature.view.run_view import UNANSWERED, RunView

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


def _caption(key: str) -> str:
    return SystemId.parse(key).caption


def _css(key: str) -> str:
    return SystemId.parse(key).css


_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"count": texts.count, "percent": texts.percent, "duration": texts.duration}
_TEMPLATES.filters |= {"caption": _caption, "css": _css}


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


def make_app(views: Sequence[RunView], *, loopback: bool = True) -> Starlette:
    """The app over one or two runs."""

    def page(name: str, view: RunView | None, **values: Any) -> Response:
        number = None if view is None else views.index(view) + 1
        values |= {"runs": [run.folder.name or str(run.folder) for run in views], "number": number, "path": name}
        version = "" if view is None else view.status()["version"]
        values |= {"view": view, "version": version, "base": "" if number is None else f"/{number}"}
        return HTMLResponse(_TEMPLATES.get_template(f"{name}.html.jinja").render(**values))

    def of(request: Request) -> RunView:
        number = int(request.path_params["run"])
        if not 1 <= number <= len(views):
            raise HTTPException(404)
        views[number - 1].open()
        return views[number - 1]

    def place_of(request: Request, rows: Sequence[Any]) -> int:
        if (place := int(request.path_params["place"])) >= len(rows):
            raise HTTPException(404, "There is no such prompt.")
        return place

    def first(request: Request) -> Response:
        return RedirectResponse("/1/" if len(views) == 1 else "/compare")

    def overview(request: Request) -> Response:
        view = of(request)
        report = view.report()
        measured = [] if report is None else [(f.caption(system), f) for system, f in report.measured().items()]
        return page("overview", view, status=view.status(), systems=measured, report=view.run.page.exists())

    def status(request: Request) -> Response:
        try:
            return JSONResponse(of(request).status())
        except UserError as error:
            return JSONResponse({"problem": texts.visible(str(error))})

    def report(request: Request) -> Response:
        path = of(request).run.page
        if not path.exists():
            raise HTTPException(404, "There is no report yet.")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})

    def train(request: Request) -> Response:
        view = of(request)
        state, sought, sort = _text(request, "state"), _text(request, "q"), _text(request, "sort")
        listed = view.train_list(state, sought, sort, _number(request, "page"))
        return page("train", view, listed=listed, state=state, q=sought, sort=sort, states=view.outcomes())

    def vote(request: Request) -> Response:
        view = of(request)
        place = place_of(request, view.resolved.train)
        voted, samples = view.vote(place)
        variants = voted.variants if voted else ()
        shown = [*samples, *(sample for variant in variants for sample in variant.samples)]
        rows = view.numbers(shown, voted.checks if voted else ())
        example, total = view.resolved.train[place].example, len(view.resolved.train)
        values = {"voted": voted, "samples": samples, "variants": variants, "example": example}
        return page("vote", view, **values, rows=rows, place=place, total=total)

    def test(request: Request) -> Response:
        view = of(request)
        tag, cut, sought = _text(request, "tag"), _text(request, "slice"), _text(request, "q")
        listed = view.test_list(tag, cut, sought, _number(request, "page"))
        slices = sorted({texts.visible(name) for row in view.resolved.held_out for name in row.slices})
        tags = [*OUTCOMES.values(), UNANSWERED]
        return page("test", view, listed=listed, tag=tag, cut=cut, q=sought, tags=tags, slices=slices)

    def answers(request: Request) -> Response:
        view = of(request)
        place = place_of(request, view.resolved.held_out)
        found = view.answers(place)
        rows = view.numbers(answer.sample for answer in found.values())
        row, total = view.resolved.held_out[place], len(view.resolved.held_out)
        return page("answers", view, row=row, answers=found, rows=rows, place=place, total=total)

    def calls(request: Request) -> Response:
        view = of(request)
        finish, sought, before = _text(request, "finish"), _text(request, "q"), _number(request, "before")
        listed, older = view.calls(finish, sought, before)
        return page("calls", view, calls=listed, older=older, finish=finish, q=sought, before=before)

    def call(request: Request) -> Response:
        view = of(request)
        if (found := view.call(request.path_params["call"])) is None:
            raise HTTPException(404, "There is no such call in the store.")
        return page("call", view, call=found)

    def comparison(request: Request) -> Response:
        if len(views) != 2:
            raise HTTPException(404, "There is one run here: give the command two to compare them.")
        for view in views:
            view.open()
        kind, part_ = _text(request, "kind"), "test" if _text(request, "part") == "test" else "train"
        listed, kinds, only = compare.compared(views[0], views[1], part_, kind, _number(request, "page"))
        values = {"listed": listed, "kinds": kinds, "only": only, "kind": kind, "part": part_}
        return page("compare", None, **values, figures=compare.figures(views))

    def error(request: Request, problem: Exception) -> Response:
        response = page("error", None, detail=problem.detail if isinstance(problem, HTTPException) else str(problem))
        # 409: what is there contradicts what is asked for, and the user can put it right
        response.status_code = problem.status_code if isinstance(problem, HTTPException) else 409
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
        exception_handlers={HTTPException: error, UserError: error},
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
    views = [RunView(folder) for folder in folders]
    with listening(host, port) as server:
        loopback = is_loopback(host)
        if not loopback:
            say(f"warning: whoever reaches {host} can read these runs: there is no password")
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{server.getsockname()[1]}/  (Ctrl-C ends it)")
        config = uvicorn.Config(
            make_app(views, loopback=loopback),
            log_level="warning",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[server])
