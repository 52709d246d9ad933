"""Sampling against what a user would run instead: tokens per second, side by side in one run.

    python benchmarks/sampling.py [--prompts 32] [--samples 8] [--max-tokens 128] [--rounds 2]
        [--llama-cpp PYTHON --gguf FILE] [--vllm PYTHON]

Ours goes the whole way, through the sampler and the store; beside it run the raw OpenVINO pipeline fed by hand, and
`model.generate(num_return_sequences=...)` at several batch sizes, whose best counts. With `--llama-cpp`, a Python that has
`xllamacpp`, llama.cpp's server runs with as many slots as ours has rows; with `--vllm`, a Python that has vLLM, `LLM.generate` is
timed once it is warm. All sample at temperature 0.7 and top-p 0.95 and may stop at the end of a turn: tokens really
generated are counted. Two loads: bare questions, and the same after worked examples of about 170 tokens. The contenders
take turns, so that a noisy machine is noisy for all.
"""

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import LLAMA_CPP, VLLM

from secondnature.engines import open_engine
from secondnature.engines.base import Engine
from secondnature.engines.chat import encode, stop_ids
from secondnature.engines.loading import pick_dtype
from secondnature.engines.models import locate
from secondnature.sampling import Model, System, in_order
from secondnature.store import Store
from secondnature.tasks.biased_capitals import load_facts
from secondnature.techniques import load_technique
from secondnature.types import Decoding, Example, Message
from secondnature.verifier import Verifier, verify
from secondnature.vote import Rule

PLACES = [fact.country for fact in load_facts()]
SHOTS = [
    ("Tell me about the people, the land and the history of Iceland.", "Some four hundred thousand people live on this island "
     "of volcanoes, ice and wind. Norse settlers founded its parliament in 930; it has been a republic since 1944."),
    ("Tell me about the people, the land and the history of Bhutan.", "A Buddhist kingdom of deep valleys in the eastern "
     "Himalaya. It was never colonised, and became a constitutional monarchy in 2008."),
]  # fmt: skip
Conversation = tuple[Message, ...]
Contender = Callable[[Sequence[Conversation], int, Decoding], tuple[int, float]]  # -> tokens generated, seconds


def conversations(number: int, *, shots: bool) -> list[Conversation]:
    before = [m for asked, told in SHOTS for m in (Message("user", asked), Message("assistant", told))] if shots else []
    texts = [f"Tell me about the people, the land and the history of {place}." for place in PLACES]
    return [(*before, Message("user", text)) for text in (texts * (number // len(texts) + 1))[:number]]


def through_sampler_and_store(engine: Engine) -> Contender:
    def run(prompts: Sequence[Conversation], samples: int, decoding: Decoding) -> tuple[int, float]:
        system = System(load_technique("direct", {}), decoding)
        vote = Verifier(Rule(samples, 0.5), lambda example, text: text, lambda answer: answer, full_n=True)
        examples = [Example(str(i), prompt) for i, prompt in enumerate(prompts)]

        async def draw_all(model: Model) -> int:
            async def one(example: Example) -> int:
                voted = await verify(model, system, example, vote)
                return sum(sample.completion_tokens for sample in voted.samples)

            return sum([tokens async for tokens in in_order(examples, one, engine.concurrency)])

        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "calls.sqlite")
            started = time.perf_counter()
            tokens = asyncio.run(draw_all(Model(store, engine.identity, engine)))
            seconds = time.perf_counter() - started
            store.close()
        return tokens, seconds

    return run


def raw_openvino(engine: Any, tokenizer: Any, stops: set[int]) -> Contender:
    """The pipeline of our engine, fed by hand: all requests at once, n samples each."""
    import openvino
    import openvino_genai as genai

    def run(prompts: Sequence[Conversation], samples: int, decoding: Decoding) -> tuple[int, float]:
        pipeline = engine._pipeline()  # a new one: nothing is cached
        started = time.perf_counter()
        handles: list[Any] = []
        for number, prompt in enumerate(prompts):
            config = genai.GenerationConfig()
            config.max_new_tokens, config.num_return_sequences = decoding.max_tokens, samples
            config.do_sample, config.temperature, config.top_p = True, decoding.temperature, decoding.top_p
            config.stop_token_ids, config.rng_seed = stops, number
            ids = openvino.Tensor(np.array([encode(tokenizer, prompt)], dtype=np.int64))
            handles.append(pipeline.add_request(number, ids, config))
        while pipeline.has_non_finished_requests():
            pipeline.step()
        tokens = sum(len(output.generated_ids) for handle in handles for output in handle.read_all())
        return tokens, time.perf_counter() - started

    return run


def generate(model: Any, tokenizer: Any, stops: set[int], batch: int) -> Contender:
    def run(prompts: Sequence[Conversation], samples: int, decoding: Decoding) -> tuple[int, float]:
        tokens = 0
        started = time.perf_counter()
        for i in range(0, len(prompts), batch):
            rows = [encode(tokenizer, prompt) for prompt in prompts[i : i + batch]]
            width = max(map(len, rows))
            ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=model.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
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
                tokens += next((j for j, token in enumerate(row) if token in stops), len(row) - 1) + 1
        return tokens, time.perf_counter() - started

    return run


def in_another_python(python: str, script: str, *arguments: str) -> Contender:
    """A contender with an environment of its own: `script` reads the job from standard input and prints its result."""

    def run(prompts: Sequence[Conversation], samples: int, decoding: Decoding) -> tuple[int, float]:
        job = {
            "prompts": [[message.as_dict() for message in prompt] for prompt in prompts],
            "samples": samples,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_tokens,
        }
        done = subprocess.run([python, "-c", script, *arguments], input=json.dumps(job), capture_output=True, text=True)
        if done.returncode:
            print(f"{python} failed: {done.stderr[-2000:]}", file=sys.stderr)
            return 0, 0.0
        result = json.loads(
            next(line for line in done.stdout.splitlines() if line.startswith('{"tokens"'))
        )  # among its logs
        return result["tokens"], result["seconds"]

    return run


def peak(dtype: torch.dtype) -> float:
    """The machine's matrix-multiply rate, in GFLOP/s: the best of a few large products."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started) / 1e9)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:smollm2-135m")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--llama-cpp", metavar="PYTHON")
    parser.add_argument("--gguf", help="the model for llama.cpp")
    parser.add_argument("--vllm", metavar="PYTHON")
    options = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = locate(options.model)
    decoding = Decoding(0.7, 0.95, options.max_tokens)
    dtype = pick_dtype("cpu")
    tokenizer: Any = AutoTokenizer.from_pretrained(files.path)
    model: Any = AutoModelForCausalLM.from_pretrained(files.path, dtype=dtype).eval()
    stops = stop_ids(tokenizer, model.generation_config)
    parameters = sum(p.numel() for p in model.parameters())
    fast = open_engine(options.model, "openvino", "auto", "cpu")
    portable = open_engine(options.model, "transformers", "auto", "cpu")
    contenders: dict[str, Contender] = {
        "ours, openvino": through_sampler_and_store(fast),
        "raw OpenVINO pipeline": raw_openvino(fast, tokenizer, stops),
        "ours, transformers": through_sampler_and_store(portable),
        **{
            f"generate, {b} x {options.samples}": generate(model, tokenizer, stops, b)
            for b in (8, 16)
            if b <= options.prompts
        },
    }
    if options.llama_cpp:
        contenders["llama.cpp server"] = in_another_python(options.llama_cpp, LLAMA_CPP, options.gguf, "128")
    if options.vllm:
        contenders["vLLM, warm"] = in_another_python(options.vllm, VLLM, files.path)
    for name in ("ours, openvino", "ours, transformers"):
        contenders[name](conversations(2, shots=False), 2, Decoding(0.7, 0.95, 8))  # warm up

    flops = peak(dtype)
    print(f"{options.model} ({parameters / 1e6:.0f}M), {dtype}, {torch.get_num_threads()} threads, {flops:.0f} GFLOP/s")
    for shots in (False, True):
        prompts = conversations(options.prompts, shots=shots)
        length = len(encode(tokenizer, prompts[0]))
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, run in contenders.items():
                tokens, seconds = run(prompts, options.samples, decoding)
                if tokens:
                    rates[name].append(tokens / seconds)
                print(f"{name}: {tokens} tokens in {seconds:.1f} s", file=sys.stderr, flush=True)
                gc.collect()
        middle = {name: statistics.median(values) for name, values in rates.items() if values}
        ours = middle["ours, openvino"]
        print(
            f"\n{len(prompts)} prompts of about {length} tokens x {options.samples} samples x {options.max_tokens} tokens"
        )
        for name, rate in middle.items():
            share = 2 * parameters * rate / 1e9 / flops
            print(
                f"  {name:<24} {rate:7.0f} tokens/s   {share:5.0%} of the peak   ours is {ours / rate:5.2f} times that"
            )
        best = max(rate for name, rate in middle.items() if name.startswith("generate"))
        print(
            f"  to generate's best: openvino {ours / best:.2f}, transformers {middle['ours, transformers'] / best:.2f}"
        )
    fast.close()
    portable.close()


if __name__ == "__main__":
    main()
