"""How busy an OpenAI-compatible server is kept: the share of its slots in use while techniques of several calls run.

    python benchmarks/endpoint.py [--prompts 256] [--slots 32] [--latency 0.3]

The server stands in this process, on a socket, and draws nothing: a reply takes a time drawn from a lognormal distribution
(sigma 0.6) around `--latency` seconds. Measured are Rephrase and Respond (two calls one after the other) and a fan-out like
Branch-Solve-Merge's (one call, five at once, one), four samples a prompt, through the sampler and the store as in a run.
It draws one reply a request. "patient" has as many slots as `engine.concurrency` says and lets more wait; "strict" refuses more
than its slots with 429. "busy" is the mean share of the slots in use, over the whole run and over the first 95% of the replies:
at the end there is too little work left. For comparison, the same in rounds: all calls of a step are awaited before the next.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secondnature.engines import open_engine
from secondnature.engines.base import Engine
from secondnature.engines.endpoint import HTTPOptions
from secondnature.sampling import Model, System, draw, in_order
from secondnature.store import Store
from secondnature.techniques import load_technique
from secondnature.types import Ask, Decoding, Example, Message, Technique

SAMPLES = 4
PARTS = 5
MODELS = json.dumps({"data": [{"id": "m"}]})


class StandIn:
    """A server with `slots` slots, and the times at which they were taken and freed."""

    def __init__(self, slots: int, latency: float, *, strict: bool):
        self.slots, self.latency, self.strict = slots, latency, strict
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
                    await asyncio.sleep(self.random.lognormvariate(0, 0.6) * self.latency)
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


@contextmanager
def serving(slots: int, latency: float, *, strict: bool) -> Iterator[StandIn]:
    loop = asyncio.new_event_loop()
    server, ready = StandIn(slots, latency, strict=strict), threading.Event()

    async def listen() -> None:
        sockets = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512)
        server.url = f"http://127.0.0.1:{sockets.sockets[0].getsockname()[1]}/v1#m"
        ready.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(listen()), loop.run_forever()), daemon=True)
    thread.start()
    ready.wait()
    yield server
    time.sleep(0.1)  # the client's connections close
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def fan_out(example: Example, ask: Ask) -> str:
    """As Branch-Solve-Merge calls: one, then several that do not depend on each other, then one."""
    plan = await ask(f"plan {example.text}")
    parts = await asyncio.gather(*(ask(f"solve {i} of {plan}") for i in range(PARTS)))
    return await ask("merge " + " ".join(parts))


async def without_barriers(model: Model, system: System, examples: list[Example]) -> None:
    async def all_samples(example: Example) -> None:
        await asyncio.gather(*(draw(model, system, example, i, lambda e, text: text) for i in range(SAMPLES)))

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
        await asyncio.gather(*(draw(model, direct, example, 0, lambda e, text: text) for example in asked))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.3)
    options = parser.parse_args()
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
