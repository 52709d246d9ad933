"""The distilled model's speed against the base's: milliseconds a token, taken in turns in one process.

    python benchmarks/decoding.py [--model bundled:smollm2-135m] [--adapter FOLDER] [--rounds 10] [--tokens 64] [--batch 60]

Both in-process engines, one prompt alone and a batch of them. Without `--adapter` a new one is made over all linear
layers with the demo's rank, as PEFT initialises it: it changes no reply, so that both write the same text, and costs
what a trained one does. The two take turns in changing order, since a noisy machine is noisy for both; ratios are of
neighbours. Beside the time that passes it prints the processor's, which other work on the machine disturbs less.
"""

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from secondnature.engines import open_engine
from secondnature.engines.base import Engine
from secondnature.engines.models import locate
from secondnature.tasks.biased_capitals import load_facts
from secondnature.types import Decoding, Message, Request

RANK = 16


def new_adapter(model: str, folder: Path) -> Path:
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    base: Any = AutoModelForCausalLM.from_pretrained(locate(model).path, dtype=torch.bfloat16)
    get_peft_model(base, config).save_pretrained(str(folder))
    return folder


def took(engine: Engine, prompts: list[str], adapter: str | None, tokens: int) -> tuple[float, float]:
    """Milliseconds a token, passed and of the processor: what all replies take together, over the tokens of one."""
    requests = [Request((Message("user", text),), Decoding(0.0, 1.0, tokens), None, adapter) for text in prompts]

    async def ask() -> int:
        return sum(reply.completion_tokens for reply in await asyncio.gather(*map(engine.reply, requests)))

    started, before = time.perf_counter(), time.process_time()
    written = asyncio.run(ask())
    each = 1000 * len(prompts) / written
    return (time.perf_counter() - started) * each, (time.process_time() - before) * each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:smollm2-135m")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--engines", nargs="+", default=["openvino", "transformers"])
    options = parser.parse_args()
    places = [fact.country for fact in load_facts()]
    prompts = [f"Tell me about the people, the land and the history of {place}." for place in places[: options.batch]]
    with tempfile.TemporaryDirectory() as folder:
        adapter = options.adapter or new_adapter(options.model, Path(folder))
        for kind in options.engines:
            engine = open_engine(options.model, kind, "auto", "cpu")
            engine.load_adapter("a", str(adapter))
            took(engine, prompts[:1], None, 1)
            started = time.perf_counter()
            took(engine, prompts[:1], "a", 1)
            print(f"{kind}: the adapter's first token after {time.perf_counter() - started:.1f} s", flush=True)
            for title, asked in (("alone", prompts[:1]), (f"a batch of {len(prompts)}", prompts)):
                for name in (None, "a"):
                    took(engine, asked, name, options.tokens)  # warm
                base: list[tuple[float, float]] = []
                distilled: list[tuple[float, float]] = []
                turns = [(base, None), (distilled, "a")]
                for _ in range(options.rounds):
                    turns.reverse()
                    for times, name in turns:
                        times.append(took(engine, asked, name, options.tokens))
                for clock, what in enumerate(("", " of the processor")):
                    pairs = [(b[clock], d[clock]) for b, d in zip(base, distilled, strict=True)]
                    middle = [statistics.median(times) for times in zip(*pairs, strict=True)]
                    best = [min(times) for times in zip(*pairs, strict=True)]
                    print(
                        f"  {title}: base {middle[0]:.2f}, distilled {middle[1]:.2f} ms{what} a token (best {best[0]:.2f}, "
                        f"{best[1]:.2f}); ratio {statistics.median(d / b for b, d in pairs):.3f} (median of "
                        f"{len(pairs)} pairs), {best[1] / best[0]:.3f} (of the best)",
                        flush=True,
                    )
            engine.close()
            del engine
            gc.collect()


if __name__ == "__main__":
    main()
