"""How busy an OpenAI-compatible server is kept, and what a request costs in CPU.

    python benchmarks/endpoint.py [--prompts 256] [--slots 32] [--latency 0.3]
    python benchmarks/endpoint.py --cpu [--requests 3000]

The server runs in another process, on a socket, and samples nothing: a reply takes a time drawn from a lognormal distribution
(sigma 0.6) around `--latency` seconds. Measured are Rephrase and Respond (two calls one after the other) and a fan-out like
Branch-Solve-Merge's (one call, five at once, one), four samples a prompt, through the sampler and the store as in a run.
It makes one reply a request. "patient" has as many slots as `engine.concurrency` says and lets more wait; "strict" refuses more
than its slots with 429. "busy" is the mean share of the slots in use, over the whole run and over the first 95% of the replies:
at the end there is too little work left. For comparison, the same in rounds: all calls of a step are awaited before the next.

`--cpu` measures milliseconds of this process's CPU a request, with 32 and with 200 requests in flight, and requests a second: of
the HTTP clients alone (those that are installed), of the engine, and of a whole run's sampling (scheduler, store and engine).
"""

import argparse
import asyncio
import importlib.util
import itertools
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from secondnature.answers import AnswerKind
from secondnature.engines import open_engine
from secondnature.engines.base import Engine
from secondnature.engines.endpoint import HTTPOptions
from secondnature.sampling import Model, System, draw, in_order
from secondnature.store import Store
from secondnature.techniques import load_technique
from secondnature.types import Ask, Decoding, Example, Message, Request, Technique

SAMPLES = 4
PARTS = 5
ANY_TEXT = AnswerKind("any", "any text", lambda example, text: text, str, "a text", str)
MODELS = json.dumps({"data": [{"id": "m"}]})


class StandIn:
    """A server with `slots` slots, and the times at which they were taken and freed."""

    def __init__(self, slots: int, latency: float, *, strict: bool, sigma: float):
        self.slots, self.latency, self.strict, self.sigma = slots, latency, strict, sigma
        self.free = asyncio.Semaphore(slots)
        self.changes: list[tuple[float, int]] = []
        self.refused = 0
        self.random = random.Random(0)
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = [int(line[15:]) for line in head.splitlines() if line.startswith("content-length:")]
                if not length:
                    respond(writer, "200 OK", MODELS)
                    continue
                await reader.readexactly(length[0])
                if self.strict and self.free.locked():
                    self.refused += 1
                    respond(writer, "429 Too Many Requests", "{}")
                    continue
                async with self.free:
                    self.changes.append((time.perf_counter(), +1))
                    await asyncio.sleep(self.random.lognormvariate(0, self.sigma) * self.latency)
                    self.changes.append((time.perf_counter(), -1))
                choice = {"index": 0, "message": {"content": f"{self.random.random()}"}, "finish_reason": "stop"}
                respond(writer, "200 OK", json.dumps({"choices": [choice]}))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def busy(self, start: float, end: float) -> float:
        """The mean share of the slots in use between two times."""
        total, active, since = 0.0, 0, start
        for when, change in [*self.changes, (end, 0)]:
            now = min(max(when, start), end)
            total += active * (now - since)
            active, since = active + change, now
        return total / (end - start) / self.slots


def respond(writer: asyncio.StreamWriter, status: str, body: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def serve_until_asked(server: StandIn, pipe: Connection) -> None:
    """Serve, in a process of its own, until something is sent through the pipe; then send back what was counted."""

    async def serve() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1024)
        pipe.send(listening.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())
    pipe.send((server.changes, server.refused))


@contextmanager
def serving(slots: int, latency: float, *, strict: bool, sigma: float = 0.6) -> Iterator[StandIn]:
    """A server in another process; what it counted is there afterwards."""
    server = StandIn(slots, latency, strict=strict, sigma=sigma)
    pipe, other = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_until_asked, args=(server, other), daemon=True)
    process.start()
    server.url = f"http://127.0.0.1:{pipe.recv()}/v1#m"
    yield server
    time.sleep(0.1)  # the client's connections close
    pipe.send(None)
    server.changes, server.refused = pipe.recv()
    process.kill()


async def fan_out(example: Example, ask: Ask) -> str:
    """As Branch-Solve-Merge calls: one, then several that do not depend on each other, then one."""
    plan = await ask(f"plan {example.text}")
    parts = await asyncio.gather(*(ask(f"solve {i} of {plan}") for i in range(PARTS)))
    return await ask("merge " + " ".join(parts))


async def without_barriers(model: Model, system: System, examples: list[Example]) -> None:
    async def all_samples(example: Example) -> None:
        await asyncio.gather(*(draw(model, system, example, i, ANY_TEXT) for i in range(SAMPLES)))

    async for _ in in_order(examples, all_samples, model.width):
        pass


async def in_rounds(model: Model, system: System, examples: list[Example]) -> None:
    """The same calls, a step of all samples at a time."""
    numbers = itertools.count()
    steps = (1, PARTS, 1) if system.technique is fan_out else (1, 1)
    for calls in steps:
        texts = [f"{next(numbers)}" for _ in range(len(examples) * SAMPLES * calls)]
        asked = [Example(text, (Message("user", text),)) for text in texts]
        direct = System(load_technique("direct", {}), system.decoding)
        await asyncio.gather(*(draw(model, direct, example, 0, ANY_TEXT) for example in asked))


def measure(run: Any, engine: Engine, technique: Technique, prompts: int) -> tuple[float, float]:
    """When the work began and when it ended."""
    examples = [Example(str(i), (Message("user", f"question {i}"),)) for i in range(prompts)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "calls.sqlite")
        work: Coroutine[Any, Any, None] = run(
            Model(store, engine.identity, engine), System(technique, Decoding(0.7, 0.95, 64)), examples
        )
        started = time.perf_counter()
        asyncio.run(work)
        ended = time.perf_counter()
        store.close()
    return started, ended


# --- what a request costs

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "a question of some length " * 30}],
    "max_tokens": 64,
    "temperature": 0.7,
}


@asynccontextmanager
async def aiohttp_client(url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post() -> Any:
            async with session.post(f"{url}/chat/completions", json=BODY) as response:
                return json.loads(await response.read())

        yield post


@asynccontextmanager
async def httpx_client(url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=None, limits=limits) as client:

        async def post() -> Any:
            return (await client.post(f"{url}/chat/completions", json=BODY)).json()

        yield post


@asynccontextmanager
async def openai_client(url: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    import openai  # type: ignore[import-not-found]

    async with openai.AsyncOpenAI(api_key="none", base_url=url) as client:
        yield lambda: client.chat.completions.create(**BODY)


@asynccontextmanager
async def engine_alone(url: str, in_flight: int) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    engine = open_engine(f"{url}#m", "http", "auto", "auto", HTTPOptions(in_flight))
    request = Request((Message("user", "a question of some length " * 30),), Decoding(0.0, 1.0, 64), None)
    try:
        yield lambda: engine.reply(request)
    finally:
        await asyncio.to_thread(engine.close)


async def send(client: Any, in_flight: int, number: int) -> tuple[float, float]:
    """CPU milliseconds a request, and requests a second, after a first round that opens the connections."""
    async with client as post:
        await asyncio.gather(*(post() for _ in range(in_flight)))
        left = iter(range(number))

        async def one_after_another() -> None:
            for _ in left:
                await post()

        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
        return (time.process_time() - cpu) / number * 1e3, number / (time.perf_counter() - started)


def whole_run(url: str, in_flight: int, number: int) -> tuple[float, float]:
    engine = open_engine(f"{url}#m", "http", "auto", "auto", HTTPOptions(in_flight))
    cpu = time.process_time()
    start, end = measure(without_barriers, engine, load_technique("rar", {}), number // 2 // SAMPLES)
    spent = time.process_time() - cpu
    engine.close()
    return spent / number * 1e3, number / (end - start)


def cpu(requests: int) -> None:
    clients = {"aiohttp": aiohttp_client, "httpx": httpx_client, "openai": openai_client}
    print(f"{'client':<30}{'in flight':>10}{'CPU ms a request':>18}{'requests/s':>12}")
    for in_flight in (32, 200):
        with serving(1000, 0.05, strict=False, sigma=0.0) as server:
            url = server.url.removesuffix("#m")
            for name, client in clients.items():
                if importlib.util.find_spec(name) is not None:
                    figures = asyncio.run(send(client(url), in_flight, requests))
                    print(f"{name:<30}{in_flight:>10}{figures[0]:>18.2f}{figures[1]:>12.0f}", flush=True)
            for name, figures in (
                ("engine", asyncio.run(send(engine_alone(url, in_flight), in_flight, requests))),
                ("scheduler, store and engine", whole_run(url, in_flight, requests)),
            ):
                print(f"{name:<30}{in_flight:>10}{figures[0]:>18.2f}{figures[1]:>12.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--cpu", action="store_true", help="what a request costs, instead of how busy the server is")
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args()
    if options.cpu:
        cpu(options.requests)
        return
    techniques: dict[str, Technique] = {"Rephrase and Respond": load_technique("rar", {}), "fan-out": fan_out}
    print(f"{options.prompts} prompts x {SAMPLES} samples, {options.slots} slots, about {options.latency:g} s a reply")
    print(
        f"{'technique':<22}{'server':<10}{'run':<12}{'requests':>9}{'429':>6}{'seconds':>9}{'busy':>7}{'first 95%':>11}"
    )
    for name, technique in techniques.items():
        for kind, run in (("patient", without_barriers), ("strict", without_barriers), ("patient", in_rounds)):
            with serving(options.slots, options.latency, strict=kind == "strict") as server:
                http = HTTPOptions(concurrency=options.slots, max_retries=50)
                engine = open_engine(server.url, "http", "auto", "auto", http)
                start, end = measure(run, engine, technique, options.prompts)
                engine.close()
            requests = len(server.changes) // 2
            last = server.changes[len(server.changes) * 95 // 100][0]
            shares = f"{server.busy(start, end):>7.1%}{server.busy(start, last):>11.1%}"
            way = "rounds" if run is in_rounds else "no barriers"
            print(
                f"{name:<22}{kind:<10}{way:<12}{requests:>9}{server.refused:>6}{end - start:>9.1f}{shares}", flush=True
            )


if __name__ == "__main__":
    main()
