"""Training against TRL's `SFTTrainer` at its defaults, on the same examples: tokens per second, loss, memory.

    python benchmarks/training.py [--model bundled:smollm2-135m] [--examples 120] [--rounds 2]

The examples are the demo's training prompts, completed by a sentence with the right capital; the LoRA, the rate, the
epochs and the batch are the demo's. Each run has a process of its own, so that its peak memory is its own; the two take
turns. Tokens are the examples' own, padding not counted.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secondnature.engines.chat import end_of_turn
from secondnature.engines.models import locate
from secondnature.recipe import Train
from secondnature.tasks.biased_capitals import TASK
from secondnature.train import IGNORED, TrainingExample, tokens, train

OPTIONS = Train()


def pairs(number: int) -> list[TrainingExample]:
    rows = TASK.parts().train
    return [TrainingExample(row.example.messages, f"The capital is {row.label}.") for row in rows[:number]]


def ours(model: str, examples: list[TrainingExample], folder: Path) -> float:
    """Seconds of training, into the folder `adapter`."""
    return train(examples, model, OPTIONS, folder / "adapter", folder / "checkpoints", digest="")["seconds"]


def trl(model: str, examples: list[TrainingExample], folder: Path) -> float:
    """The same through TRL as its documentation shows it: conversations in, everything else at its default."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    data = [
        {
            "prompt": [message.as_dict() for message in pair.prompt],
            "completion": [{"role": "assistant", "content": pair.completion}],
        }
        for pair in examples
    ]
    config = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=OPTIONS.num_train_epochs,
        learning_rate=OPTIONS.learning_rate,
        per_device_train_batch_size=OPTIONS.per_device_train_batch_size,
        lr_scheduler_type=OPTIONS.lr_scheduler_type,
        warmup_steps=OPTIONS.warmup_ratio,
        seed=OPTIONS.seed,
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=OPTIONS.lora_r, lora_alpha=OPTIONS.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer: Any = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(data), peft_config=lora)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.model.save_pretrained(str(folder / "adapter"))
    return seconds


def loss_of(model: str, adapter: Path, examples: list[TrainingExample]) -> float:
    """The trained model's mean loss on the examples' answer tokens, in float32 whatever it was trained in."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    trained: Any = PeftModel.from_pretrained(base, str(adapter)).eval()
    total, count = 0.0, 0
    for pair in examples:
        row = {name: torch.tensor([ids]) for name, ids in tokens(tokenizer, pair, end_of_turn(tokenizer)).items()}
        answer = int((row["labels"] != IGNORED).sum())
        with torch.inference_mode():
            total += float(trained(**row).loss) * answer
        count += answer
    return total / count


def measured(work: Callable[..., float], model: str, examples: list[TrainingExample]) -> dict[str, float]:
    """`work` in a process of its own: seconds, loss, peak memory in GB, what importing takes included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (work, model, examples))


def _run(work: Callable[..., float], model: str, examples: list[TrainingExample]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = work(model, examples, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        loss = loss_of(model, Path(folder) / "adapter", examples)
    return {"seconds": seconds, "loss": loss, "peak_gb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:smollm2-135m")
    parser.add_argument("--examples", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    path = locate(options.model).path
    examples = pairs(options.examples)

    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    total = (
        sum(len(tokens(tokenizer, pair, end_of_turn(tokenizer))["input_ids"]) for pair in examples)
        * OPTIONS.num_train_epochs
    )
    found: dict[str, list[dict[str, float]]] = {"ours": [], "TRL": []}
    for _ in range(options.rounds):
        for name, work in (("ours", ours), ("TRL", trl)):
            found[name].append(measured(work, path, examples))
            print(name, json.dumps(found[name][-1]), flush=True)
    print(f"{options.model}: {len(examples)} examples, {total:,.0f} tokens in {OPTIONS.num_train_epochs:g} epochs")
    rate = {name: total / statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
    for name, runs in found.items():
        loss = statistics.median(run["loss"] for run in runs)
        peak = max(run["peak_gb"] for run in runs)
        print(f"  {name:<5} {rate[name]:6.0f} tokens/s   loss after it {loss:.3f}   peak memory {peak:.1f} GB")
    print(f"  ratio {rate['ours'] / rate['TRL']:6.2f}")


if __name__ == "__main__":
    main()
