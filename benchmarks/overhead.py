"""What the package itself costs: time and memory of a run whose model answers at once, and the store's figures.

    python benchmarks/overhead.py [--most 30000] [--samples 4] [--calls 1000000] [--plot overhead.svg]

A run samples, verifies and reports on prompts from a file, with every call on the disk before it is used; nothing is
trained. Each run and each look at the store has a process of its own, so that its peak memory is its own. The
processor's seconds are for a machine that others use too; calls/s are those of sampling. The plot has
time and memory against prompts, both axes logarithmic: a line that is parallel to the dashed one is linear.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import math
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from secondnature import context
from secondnature.progress import Display
from secondnature.recipe_file import load_recipe
from secondnature.report.build import build_report
from secondnature.run import open_run
from secondnature.stages import sample, verify
from secondnature.store import Store
from secondnature.types import Decoding, Message, Reply, Request

Figures = dict[str, float]
QUESTION = (
    "Row {} of a log: the user asks whether the order that was placed last week has been sent. Has it, yes or no?"
)
REASONING = "The order was placed last week, and orders are sent within two days, unless something is missing. "
LOOKUPS = 50_000


class Instant:
    """A model that answers at once: "yes" mostly, "no" to a quarter of the seeds, so that votes differ."""

    concurrency = 256
    context_length = 4096
    identity: Mapping[str, str] = {"weights": "0" * 64, "dtype": "none", "template": "1" * 64}

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return 40

    async def reply(self, request: Request) -> Reply:
        answer = "no" if (request.seed or 1) % 4 == 0 else "yes"
        return Reply(f"{REASONING}The answer is: {answer}", "stop", 40, 24, 0.0)

    def load_adapter(self, name: str, path: str) -> None: ...

    def close(self) -> None: ...


def run(prompts: int, samples: int) -> Figures:
    """Seconds of each stage and of the processor, calls, peak memory in MB."""
    context.open_engine = lambda *_: Instant()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, rows in (("train", prompts), ("test", 100)):
            with (folder / f"{part}.jsonl").open("w") as file:
                for i in range(rows):
                    file.write(json.dumps({"id": f"{part}-{i}", "prompt": QUESTION.format(f"{part} {i}")}) + "\n")
        recipe = {
            "model": "instant",
            "data": {"train": "train.jsonl", "dev": "test.jsonl", "test": "test.jsonl"},
            "answer": {"kind": "yes_no"},
            "technique": {"name": "cot"},
            "sampling": {"n": samples},
            "engine": {"kind": "fake"},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        marks, before = [time.perf_counter()], time.process_time()
        with (
            open_run(folder / "run", load_recipe(folder / "recipe.yaml")) as opened,
            context.open_context(opened, Display(quiet=True)) as working,
        ):
            marks.append(time.perf_counter())
            for stage in (sample, verify, build_report):
                stage(working)
                marks.append(time.perf_counter())
            calls = len(working.store)
    read, sampled, verified, reported = (b - a for a, b in itertools.pairwise(marks))
    return {
        "prompts": prompts,
        "calls": calls,
        "read": read,
        "sample": sampled,
        "verify": verified,
        "report": reported,
        "seconds": marks[-1] - marks[0],
        "cpu": time.process_time() - before,
        "memory": peak_memory(),
    }


def key_of(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()


def fill(path: Path, calls: int) -> Figures:
    """Put `calls` replies into a store, a thousand at a time."""
    reply = Reply(f"{REASONING}The answer is: yes", "stop", 40, 24, 0.5)
    model = json.dumps(dict(Instant.identity))
    store = Store(path)

    async def put_all() -> None:
        for start in range(0, calls, 1000):
            requests = {
                key_of(i): Request((Message("user", QUESTION.format(i)),), Decoding(0.7, 0.95, 128), i)
                for i in range(start, min(calls, start + 1000))
            }
            await asyncio.gather(*(store.put(key, model, request, reply) for key, request in requests.items()))

    started = time.perf_counter()
    asyncio.run(put_all())
    seconds = time.perf_counter() - started
    store.close()
    return {"seconds": seconds, "megabytes": path.stat().st_size / 1e6}


def look_up(path: Path, calls: int) -> Figures:
    """Open a store, ask for calls in no order, half of which it has."""
    draw = random.Random(0)
    keys = [key_of(draw.randrange(2 * calls)) for _ in range(LOOKUPS)]
    started = time.perf_counter()
    store = Store(path)
    opened = time.perf_counter()
    found = sum(store.get(key) is not None for key in keys)
    ended = time.perf_counter()
    assert 0.4 < found / LOOKUPS < 0.6
    store.close()
    return {"open": opened - started, "rate": LOOKUPS / (ended - opened), "memory": peak_memory()}


def peak_memory() -> float:
    """Of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def apart(job: Callable[..., Figures], *arguments: Any) -> Figures:
    """`job` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(job, arguments)


def plot(runs: Sequence[Figures]) -> str:
    """Seconds and megabytes against prompts, side by side, as an SVG file that needs nothing else."""
    panels = "".join(
        f'<g transform="translate({left} 0)">{_panel(title, [(r["prompts"], r[name]) for r in runs], straight)}</g>'
        for left, title, name, straight in (
            (0, "seconds of a run", "seconds", True),
            (400, "peak memory, MB", "memory", False),
        )
    )
    style = "text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.line{fill:none;stroke:#2563eb;stroke-width:2}"
    style += ".dot{fill:#2563eb}.linear{stroke:#999;stroke-dasharray:4 4}"
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 300" width="800" height="300" role="img">'
    label = "<title>Time and memory of a run against prompts</title>"
    return f'{head}{label}<style>{style}</style><rect width="800" height="300" fill="#fff"/>{panels}</svg>\n'


def _panel(title: str, points: Sequence[tuple[float, float]], straight: bool) -> str:
    left, right, top, bottom = 56, 364, 34, 256
    (x0, x1), (y0, y1) = (
        (math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9))
        for values in zip(*points, strict=True)
    )
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (math.log10(x) - x0) / (x1 - x0), (math.log10(y) - y0) / (y1 - y0)
        return round(left + (right - left) * across, 1), round(bottom - (bottom - top) * up, 1)

    body = [f'<text x="{left}" y="20">{title}</text>', f'<text x="{right}" y="290" text-anchor="end">prompts</text>']
    for power in range(x0, x1 + 1):
        x, _ = place(10.0**power, 10.0**y0)
        body.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
        body.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{10**power:,}</text>')
    for power in range(y0, y1 + 1):
        _, y = place(10.0**x0, 10.0**power)
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        body.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    (first, value), (last, _) = points[0], points[-1]
    if straight:  # what the first run's time would come to
        ends = place(first, value), place(last, min(value * last / first, 10.0**y1))
        body.append('<line class="linear" x1="{}" y1="{}" x2="{}" y2="{}"/>'.format(*ends[0], *ends[1]))
    placed = [place(*point) for point in points]
    body.append(f'<polyline class="line" points="{" ".join(f"{x},{y}" for x, y in placed)}"/>')
    body += [f'<circle class="dot" cx="{x}" cy="{y}" r="4"/>' for x, y in placed]
    return "".join(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=30_000, help="the largest run's prompts")
    parser.add_argument("--samples", type=int, default=4, help="n, the most samples of a prompt")
    parser.add_argument("--calls", type=int, default=1_000_000, help="how large the store is; 0 leaves it out")
    parser.add_argument("--plot", type=Path, default=Path("overhead.svg"))
    options = parser.parse_args()
    sizes = [n for power in range(3, 10) for n in (10**power, 3 * 10**power) if n <= options.most]
    print(
        "  prompts   seconds  (read  sample  verify  report)  processor  prompts/s  calls/s   peak memory", flush=True
    )
    runs: list[Figures] = []
    for prompts in sizes:
        runs.append(apart(run, prompts, options.samples))
        r = runs[-1]
        stages = f"({r['read']:4.1f} {r['sample']:7.1f} {r['verify']:7.1f} {r['report']:7.1f})"
        rates = f"{r['cpu']:9.1f} {prompts / r['seconds']:10,.0f} {r['calls'] / r['sample']:8,.0f}"
        print(f"{prompts:9,} {r['seconds']:9.1f}  {stages}  {rates} {r['memory']:10.0f} MB", flush=True)
    if runs:
        options.plot.write_text(plot(runs))
        print(f"plot: {options.plot}")
    if options.calls:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "calls.sqlite"
            filled = apart(fill, path, options.calls)
            seen = apart(look_up, path, options.calls)
        print(
            f"store of {options.calls:,} calls, {filled['megabytes']:,.0f} MB: "
            f"written at {options.calls / filled['seconds']:,.0f} calls/s, opened in {seen['open']:.3f} s, "
            f"{seen['rate']:,.0f} look-ups/s, peak memory {seen['memory']:.0f} MB"
        )


if __name__ == "__main__":
    main()
