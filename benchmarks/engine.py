"""The in-process engine against `model.generate` on the same requests: tokens per second, side by side in one run.

    python benchmarks/engine.py [--model bundled:smollm2-135m] [--prompts 16] [--samples 8] [--max-tokens 64]

Both sample at temperature 0.7 and top-p 0.95 from the same prompts in the same precision; both may stop at the end of a
turn, so tokens really generated are counted. `generate` gets several batch sizes, and its best one counts. The two take
turns, `--rounds` times, so that a noisy machine is noisy for both.
"""

import argparse
import asyncio
import statistics
import time
from typing import Any

import torch

from secondnature.engines.chat import encode
from secondnature.engines.models import locate
from secondnature.engines.transformers import TransformersEngine
from secondnature.types import Decoding, Message, Request

COUNTRIES = [
    "France",
    "Spain",
    "Germany",
    "Italy",
    "Japan",
    "Kenya",
    "Peru",
    "Chile",
    "Canada",
    "Norway",
    "Egypt",
    "Ghana",
    "Nepal",
    "Fiji",
    "Cuba",
    "Iran",
    "Iraq",
    "Laos",
    "Mali",
    "Oman",
    "Qatar",
    "Togo",
    "Chad",
    "Malta",
    "Samoa",
    "Sudan",
    "Syria",
    "Yemen",
    "Zambia",
    "Angola",
    "Belize",
    "Benin",
]


def conversations(number: int) -> list[tuple[Message, ...]]:
    texts = [f"Tell me about the people, the land and the history of {country}." for country in COUNTRIES]
    return [(Message("user", text),) for text in (texts * (number // len(texts) + 1))[:number]]


def ours(engine: TransformersEngine, prompts: list[tuple[Message, ...]], samples: int, decoding: Decoding) -> float:
    """Tokens per second of the engine."""

    async def run() -> int:
        requests = [Request(p, decoding, 1000 * i + k) for i, p in enumerate(prompts) for k in range(samples)]
        replies = await asyncio.gather(*(engine.reply(request) for request in requests))
        return sum(reply.completion_tokens for reply in replies)

    started = time.perf_counter()
    tokens = asyncio.run(run())
    return tokens / (time.perf_counter() - started)


def theirs(engine: Any, prompts: list[tuple[Message, ...]], samples: int, decoding: Decoding, batch: int) -> float:
    """Tokens per second of `generate`, `batch` prompts at a time."""
    tokenizer, model = engine.tokenizer, engine.model
    tokens = 0
    started = time.perf_counter()
    for i in range(0, len(prompts), batch):
        rows = [encode(tokenizer, prompt) for prompt in prompts[i : i + batch]]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=engine.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=engine.device)
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                top_k=0,
                max_new_tokens=decoding.max_tokens,
                num_return_sequences=samples,
                pad_token_id=tokenizer.eos_token_id,
            )
        for row in out[:, width:].tolist():
            stop = next((j for j, token in enumerate(row) if token in engine.stop_ids), len(row) - 1)
            tokens += stop + 1
    return tokens / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:smollm2-135m")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    engine = TransformersEngine(locate(options.model))
    prompts = conversations(options.prompts)
    decoding = Decoding(0.7, 0.95, options.max_tokens)
    ours(engine, prompts[:2], 2, decoding)  # warm up
    batches = [batch for batch in (2, 8, 16) if batch <= options.prompts]
    rates: dict[str, list[float]] = {"engine": [], **{f"generate, batch {b} x {options.samples}": [] for b in batches}}
    for _ in range(options.rounds):
        rates["engine"].append(ours(engine, prompts, options.samples, decoding))
        for batch in batches:
            rates[f"generate, batch {batch} x {options.samples}"].append(
                theirs(engine, prompts, options.samples, decoding, batch)
            )
    engine.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{options.model}, {engine.identity['dtype']} on {engine.device}, {torch.get_num_threads()} threads")
    print(f"{options.prompts} prompts x {options.samples} samples x up to {options.max_tokens} tokens")
    for name, rate in middle.items():
        print(f"  {name:<28} {rate:7.0f} tokens/s")
    best = max(rate for name, rate in middle.items() if name != "engine")
    print(f"  ratio to generate's best     {middle['engine'] / best:7.2f}")


if __name__ == "__main__":
    main()
