"""The demo's whole job against the script that one would write with `generate` and TRL: time, tokens, accuracy.

    python benchmarks/end_to_end.py [--recipe RECIPE] [--limit N]

The script draws all N samples of every prompt with `generate` (bf16 where the machine is fast at it, 128 rows a batch), takes
the majority, trains with TRL's `SFTTrainer` at its defaults, and answers the test prompts with System 1, System 2 and the
distilled model. Both use the recipe's prompts, decoding, votes, rate, epochs and batch. Ours leaves out what the script does
not do: baselines, latencies, System 1 voted. The recipe's technique must be System 2 Attention with demonstrations.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import secondnature as sn
from secondnature.engines.chat import encode, stop_ids
from secondnature.engines.loading import pick_dtype
from secondnature.engines.models import locate
from secondnature.recipe import Recipe
from secondnature.recipe_file import load_recipe
from secondnature.resolve import prepare
from secondnature.start import DEMO
from secondnature.techniques.turns import demonstrated
from secondnature.types import Message, Row
from secondnature.vote import votes_needed

ROWS = 128
Conversation = Sequence[Message]


class Script:
    """A plain program around `generate` and `SFTTrainer`."""

    def __init__(self, recipe: Recipe):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.recipe = recipe
        self.setup = prepare(recipe)
        self.path = locate(recipe.model).path
        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.path)
        self.model: Any = AutoModelForCausalLM.from_pretrained(self.path, dtype=pick_dtype("cpu")).eval()
        self.stops = stop_ids(self.tokenizer, self.model.generation_config)
        self.shown = demonstrated(recipe.technique.options["demonstrations"], "prompt", "rewritten")
        self.tokens = 0

    def generate(self, conversations: Sequence[Conversation], *, n: int = 1, greedy: bool) -> list[str]:
        """`n` replies to each conversation, in order."""
        sampling = self.recipe.sampling
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        replies: list[str] = []
        for i in range(0, len(conversations), ROWS // n):
            rows = [encode(self.tokenizer, conversation) for conversation in conversations[i : i + ROWS // n]]
            width = max(map(len, rows))
            ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            with torch.inference_mode():
                out = self.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=sampling.max_tokens,
                    num_return_sequences=n,
                    pad_token_id=self.tokenizer.eos_token_id,
                    **({"do_sample": False} if greedy else drawn),
                )
            for row in out[:, width:].tolist():
                end = next((j for j, token in enumerate(row) if token in self.stops), None)
                self.tokens += len(row) if end is None else end + 1
                replies.append("" if end is None else self.tokenizer.decode(row[:end], skip_special_tokens=True))
        return replies

    def system2(self, rows: Sequence[Row], *, n: int, greedy: bool) -> list[str]:
        first = [[*self.shown, Message("user", row.example.text)] for row in rows]
        rewritten = self.generate(first, n=n, greedy=greedy)
        return self.generate([[Message("user", text)] for text in rewritten], greedy=greedy)

    def curate(self) -> list[dict[str, Any]]:
        """Conversations in TRL's prompt-completion format: the majority's first output."""
        n = self.recipe.sampling.n
        kind, rows = self.setup.kind, self.setup.train
        texts = self.system2(rows, n=n, greedy=False)
        kept: list[dict[str, Any]] = []
        for i, row in enumerate(rows):
            read = [(text, kind.extract(row.example, text)) for text in texts[i * n : (i + 1) * n]]
            votes = Counter(kind.normalize(answer) for _, answer in read if answer is not None).most_common(2)
            needed = votes_needed(n, self.recipe.verify.min_agreement)
            if votes and votes[0][1] >= needed and (len(votes) == 1 or votes[1][1] < votes[0][1]):
                text = next(
                    text for text, answer in read if answer is not None and kind.normalize(answer) == votes[0][0]
                )
                prompt = [message.as_dict() for message in row.example.messages]
                kept.append({"prompt": prompt, "completion": [{"role": "assistant", "content": text.strip()}]})
        return kept

    def train(self, data: list[dict[str, Any]], folder: Path) -> None:
        from datasets import Dataset
        from peft import LoraConfig
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        options = self.recipe.train
        config = SFTConfig(
            output_dir=str(folder),
            num_train_epochs=options.num_train_epochs,
            learning_rate=options.learning_rate,
            per_device_train_batch_size=options.per_device_train_batch_size,
            lr_scheduler_type=options.lr_scheduler_type,
            warmup_steps=options.warmup_ratio,
            seed=options.seed,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        )
        lora = LoraConfig(
            r=options.lora_r, lora_alpha=options.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        trainer: Any = SFTTrainer(model=self.path, args=config, train_dataset=Dataset.from_list(data), peft_config=lora)
        trainer.train()
        self.model = trainer.model.to(pick_dtype("cpu")).eval()

    def accuracy(self, rows: Sequence[Row], texts: Sequence[str]) -> float:
        kind, headline = self.setup.kind, self.recipe.evaluate.headline
        right = [
            (answer := kind.extract(row.example, text)) is not None
            and kind.normalize(answer) == kind.normalize(row.label or "")
            for row, text in zip(rows, texts, strict=True)
            if headline is None or headline in row.slices
        ]
        return round(sum(right) / len(right), 4)


def theirs(recipe: Recipe, folder: Path) -> dict[str, Any]:
    took: dict[str, float] = {}
    started = time.perf_counter()
    script = Script(recipe)
    rows = script.setup.held_out
    data = script.curate()
    took["sample"] = time.perf_counter() - started
    sampled = script.tokens
    system1 = script.generate([row.example.messages for row in rows], greedy=True)
    accuracy = {"system1": script.accuracy(rows, system1)}
    accuracy["system2"] = script.accuracy(rows, script.system2(rows, n=1, greedy=True))
    took["evaluate"] = time.perf_counter() - started - took["sample"]
    script.train(data, folder)
    took["train"] = time.perf_counter() - started - took["sample"] - took["evaluate"]
    distilled = script.generate([row.example.messages for row in rows], greedy=True)
    accuracy["distilled"] = script.accuracy(rows, distilled)
    took["all"] = time.perf_counter() - started
    took["evaluate"] = took["all"] - took["sample"] - took["train"]
    return {"seconds": took, "tokens": sampled, "kept": len(data), "accuracy": accuracy}


def ours(recipe: Recipe, folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    run = sn.distill(recipe, folder)
    seconds = time.perf_counter() - started
    report = json.loads(run.report.read_text())
    return {
        "seconds": {**report["seconds"], "all": seconds},
        "tokens": report["curation"]["tokens_completion"],
        "kept": report["curation"]["kept"],
        "accuracy": {name: report["systems"][name]["accuracy"] for name in ("system1", "system2", "distilled")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=str(DEMO))
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    same_job = ["evaluate.baselines={}", "evaluate.voted=false", "evaluate.latency_prompts=0"]
    recipe = load_recipe(Path(options.recipe), same_job, options.limit)
    results: dict[str, dict[str, Any]] = {}
    for name, job in (("ours", ours), ("script", theirs)):
        with tempfile.TemporaryDirectory() as folder:
            results[name] = job(recipe, Path(folder) / "run")
        print(name, json.dumps(results[name]), flush=True)
    for name, result in results.items():
        stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result["seconds"].items() if stage != "all")
        accuracy = ", ".join(f"{system} {value:.3f}" for system, value in result["accuracy"].items())
        print(f"{name:<7} {result['seconds']['all']:6.0f} s ({stages}); {result['tokens']:,} tokens drawn to sample, "
              f"{result['kept']} kept; {accuracy}")  # fmt: skip
    print(
        f"ours takes {results['ours']['seconds']['all'] / results['script']['seconds']['all']:.2f} of the script's time"
    )


if __name__ == "__main__":
    main()
