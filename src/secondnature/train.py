# pyright: basic
# (TRL, PEFT and datasets are not typed)
"""Fine-tune the model on the kept answers, from the last whole checkpoint on. The only file that knows TRL and PEFT."""

import contextlib
import json
import shutil
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondnature.engines.chat import End, answer_ids, encode, end_of_turn
from secondnature.engines.loading import first_line
from secondnature.engines.models import PublicName
from secondnature.files import digests, file_digest, sync
from secondnature.recipe import Train
from secondnature.types import Message, UserError

IGNORED = -100  # the label of a token that carries no loss
AT_ONCE = 768  # tokens that go through the model together on a CPU: more take memory and save no time
SHORT = 512  # tokens up to which attention on the CPU is faster, backwards, as plain matrix products
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
COMPLETE = ".complete"  # in a checkpoint's folder once all of it is on disk: the digests of its files
NO_ROOM = ("inline_container", "PytorchStreamWriter")  # who speaks in PyTorch where a file cannot be written


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """What the student learns: the prompt that System 1 is asked, and the answer without the reasoning that led to it."""

    prompt: tuple[Message, ...]
    completion: str


def tokens(tokenizer: Any, pair: TrainingExample, end: End | None) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a pair: exactly the prompt that an engine serves, then the answer and the `end` of its turn.

    Labels are IGNORED on the prompt, so that the loss is on the answer only.
    """
    prompt = encode(tokenizer, pair.prompt)
    answer = answer_ids(tokenizer, pair.completion, end)
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


@contextlib.contextmanager
def logits_at(model: Any, wanted: Any) -> Generator[None]:
    """Let `model` compute logits only where `wanted` [rows, tokens] is true: they come as [1, wanted, vocabulary].

    Over a large vocabulary the logits of every token cost more than the layers do.
    """

    def pick(head: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
        return (states[0][wanted][None],)

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()


def train(
    pairs: Sequence[TrainingExample],
    model_path: str,
    options: Train,
    adapter: Path,
    checkpoints: Path,
    *,
    digest: str,
    dtype: str = "auto",
    device: str = "auto",
    on_begin: Callable[[int, int, int], None] = lambda step, steps, tokens: None,
    on_step: Callable[[int, int, float | None, int], None] = lambda step, steps, loss, tokens: None,
    run_name: str | None = None,
    on_tracker_error: Callable[[str, Exception], None] = lambda name, error: None,
    base: PublicName | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train a LoRA adapter (Hu et al., 2021, arXiv 2106.09685) and save it as safetensors in the folder `adapter`.

    Resumes from the last whole checkpoint in `checkpoints`; `say` is told where one is damaged. Calls
    `on_begin(step, steps, tokens)` once the model is loaded, and `on_step(step, steps, loss, tokens trained on so far)`
    after each step. `on_tracker_error` is told of a tracker of `options.report_to` that failed; training goes on. The adapter
    names its base as `base`, which others can find. Beside it lies `training.json`, which is also returned: `digest`, the
    digests of the adapter's `files`, examples, steps, tokens, seconds, losses. Raises UserError where a pair does not fit the
    context, or the adapter cannot be written.
    """
    import torch
    from peft.helpers import disable_input_dtype_casting
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers import PrinterCallback, set_seed

    from secondnature.engines.loading import open_model, open_tokenizer, pick_dtype, quiet, usable_device

    for place in (adapter, _partial(adapter), checkpoints, checkpoints.parent):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise UserError(f"{place} is no folder, where training writes one: move it away")
    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    tokenizer: Any = open_tokenizer(model_path)
    end = end_of_turn(tokenizer)
    rows = [tokens(tokenizer, pair, end) for pair in pairs]
    longest = max(len(row["input_ids"]) for row in rows)
    set_seed(options.seed)
    device = usable_device(device)
    precision = pick_dtype(device) if dtype == "auto" else getattr(torch, dtype)
    if device == "cpu" and precision == torch.float16:
        precision = torch.float32  # a CPU trains in no 16 bits but bfloat16; the weights are the same
    model = open_model(model_path, dtype=precision)
    if longest > (context := getattr(model.config, "max_position_embeddings", longest)):
        raise UserError(
            f"a training example has {longest} tokens, the model's context is {context}: shorten the prompt"
        )
    config = _config(options, checkpoints, device, precision, longest, run_name)
    trainer = _trainer(model, tokenizer, rows, options, config, _watch(checkpoints, on_begin, on_step))
    trainer.remove_callback(PrinterCallback)
    for name in options.report_to:
        trainer.add_callback(_guarded(name, on_tracker_error))
    last = last_checkpoint(checkpoints, say)
    short = device == "cpu" and longest <= SHORT
    attention = sdpa_kernel(SDPBackend.MATH) if short else contextlib.nullcontext()
    # Autocast casts once, and to fewer bits.
    with attention, disable_input_dtype_casting(trainer.model), _written(checkpoints):
        result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    seconds, seen = float(result.metrics["train_runtime"]), int(trainer.state.num_input_tokens_seen)
    history = [{"step": entry["step"], "loss": entry["loss"]} for entry in trainer.state.log_history if "loss" in entry]
    summary = {
        "digest": digest,
        "examples": len(rows),
        "steps": trainer.state.global_step,
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "seconds": seconds,
        "tokens_per_second": seen / seconds if last is None and seconds else None,
        "loss_first": history[0]["loss"] if history else None,
        "loss_last": history[-1]["loss"] if history else None,
        "history": history,
    }
    return _save(trainer.model, adapter, checkpoints, summary, base)


def _partial(adapter: Path) -> Path:
    return adapter.with_name(adapter.name + ".partial")


def _config(options: Train, checkpoints: Path, device: str, precision: Any, longest: int, run_name: str | None) -> Any:
    """TRL's settings. On a CPU a batch of more than AT_ONCE tokens is accumulated from smaller ones: the same gradient."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    rows_at_once = options.per_device_train_batch_size
    while device == "cpu" and rows_at_once % 2 == 0 and rows_at_once * longest > AT_ONCE:
        rows_at_once //= 2
    same_names = {
        "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "weight_decay", "seed", "save_steps"
    }  # fmt: skip
    return SFTConfig(
        **options.model_dump(include=same_names),
        output_dir=str(checkpoints),
        per_device_train_batch_size=rows_at_once,
        gradient_accumulation_steps=options.gradient_accumulation_steps
        * (options.per_device_train_batch_size // rows_at_once),
        warmup_steps=options.warmup_ratio,
        data_seed=options.seed,
        save_strategy="steps",
        save_total_limit=2,
        logging_steps=1,
        report_to="none",  # the trackers are added guarded: one that fails ends no training
        run_name=run_name,
        project="secondnature",
        max_length=None,  # the default truncates at 1024 tokens without a word; what does not fit was refused
        dataset_kwargs={"skip_prepare_dataset": True},
        gradient_checkpointing=False,
        # The frozen base is in the engine's precision, the adapter in float32; matrices are multiplied in the former.
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,
        train_sampling_strategy="group_by_length",
        use_cpu=device == "cpu",
        include_num_input_tokens_seen="non_padding",
        disable_tqdm=True,
        dataloader_pin_memory=device == "cuda",
    )


def _trainer(
    model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], options: Train, config: Any, watch: Any
) -> Any:
    """TRL's trainer with the same loss, mean cross-entropy on the answers, computed from their logits alone."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class AnswerTrainer(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            labels = torch.nn.functional.pad(inputs.pop("labels"), (0, 1), value=IGNORED)[:, 1:]  # of the next token
            with logits_at(self.model, labels != IGNORED):
                logits = model(**inputs, use_cache=False).logits[0].float()
            labels = labels[labels != IGNORED]
            total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            if num_items_in_batch is None:
                return total / len(labels)
            return total / num_items_in_batch * self.accelerator.num_processes  # whose gradients are averaged

    lora = LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return AnswerTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[watch],
    )


def _watch(checkpoints: Path, on_begin: Callable[..., None], on_step: Callable[..., None]) -> Any:
    """The callback that reports progress, and marks a checkpoint as whole."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            on_begin(state.global_step, state.max_steps, int(state.num_input_tokens_seen))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            loss = (logs or {}).get("loss")
            on_step(state.global_step, state.max_steps, loss, int(state.num_input_tokens_seen))

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seal(checkpoints / f"checkpoint-{state.global_step}")

    return Watch()


def _save(
    model: Any, adapter: Path, checkpoints: Path, summary: dict[str, Any], base: PublicName | None
) -> dict[str, Any]:
    """Put the adapter in its place once all of it is on disk, and remove the checkpoints; returns the whole summary."""
    partial = _partial(adapter)
    shutil.rmtree(partial, ignore_errors=True)
    with _written(partial):
        model.save_pretrained(str(partial), safe_serialization=True)
    if base is not None:
        name_base(partial, partial, base)
    summary = {**summary, "files": {name: file_digest(partial / name) for name in (WEIGHTS, CONFIG)}}
    (partial / "training.json").write_text(json.dumps(summary, indent=1) + "\n")
    _on_disk(partial)
    shutil.rmtree(adapter, ignore_errors=True)
    partial.replace(adapter)
    sync(adapter.parent)
    shutil.rmtree(checkpoints, ignore_errors=True)
    with contextlib.suppress(OSError):  # another adapter's checkpoints may lie beside it
        checkpoints.parent.rmdir()
    return summary


@contextlib.contextmanager
def _written(folder: Path) -> Generator[None]:
    """What safetensors and PyTorch raise where a file cannot be written is no OSError: it is one line too."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if not isinstance(error, SafetensorError) and not any(name in str(error) for name in NO_ROOM):
            raise
        raise UserError(
            f"{folder}: the adapter could not be written ({first_line(error)}): is the disk full? Put that right, and the same "
            "command goes on from the last checkpoint"
        ) from error


def name_base(adapter: Path, out: Path, base: PublicName) -> None:
    """Write the adapter's configuration into the folder `out`: its base by its public name, not by a path of this machine."""
    config = json.loads((adapter / CONFIG).read_text())
    (out / "README.md").unlink(missing_ok=True)  # PEFT's, an empty form that has the path too
    named = {**config, "base_model_name_or_path": base.name, "revision": base.revision}
    (out / CONFIG).write_text(json.dumps(named, indent=1) + "\n")


def _guarded(name: str, failed: Callable[[str, Exception], None]) -> Any:
    """The Trainer's own callback for a tracker, which is left alone from its first error on."""
    from transformers import TrainerCallback
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    working: list[Any] = []
    try:
        [callback] = get_reporting_integration_callbacks([name])
        working.append(callback())
    except Exception as error:  # noqa: BLE001  # a tracker may raise anything
        failed(name, error)

    def guard(event: str) -> Callable[..., None]:
        def call(self: Any, *args: Any, **kwargs: Any) -> None:
            for callback in working[:]:
                try:
                    getattr(callback, event)(*args, **kwargs)
                except Exception as error:  # noqa: BLE001
                    working.clear()
                    failed(name, error)

        return call

    events = [event for event in dir(TrainerCallback) if event.startswith("on_")]
    return type(f"Guarded{name}", (TrainerCallback,), {event: guard(event) for event in events})()


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as whole, once all of it is on disk: a kill or a power cut leaves none that is half and has the mark."""
    _on_disk(checkpoint)
    mark = checkpoint / COMPLETE
    mark.write_text(json.dumps(_digests(checkpoint)))
    sync(mark)
    sync(checkpoint)


def last_checkpoint(checkpoints: Path, say: Callable[[str], None] = lambda line: None) -> Path | None:
    """The last checkpoint that is whole; the others are removed, and of those that were whole once `say` is told."""
    whole: list[Path] = []
    damaged: list[str] = []
    for folder in checkpoints.glob("checkpoint-*"):
        if not folder.is_dir() or not _number(folder).isdigit():
            continue
        if _is_whole(folder):
            whole.append(folder)
            continue
        if (folder / COMPLETE).exists():
            damaged.append(folder.name)
        shutil.rmtree(folder)
    last = max(whole, key=lambda folder: int(_number(folder)), default=None)
    if damaged:
        where = "starts again" if last is None else f"goes on from {last.name}"
        say(f"{', '.join(sorted(damaged))}: damaged, and removed; training {where}")
    return last


def _number(checkpoint: Path) -> str:
    return checkpoint.name.rpartition("-")[2]


def _is_whole(checkpoint: Path) -> bool:
    try:
        return json.loads((checkpoint / COMPLETE).read_text()) == _digests(checkpoint)
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return digests(folder, (path for path in folder.rglob("*") if path.name != COMPLETE))


def _on_disk(folder: Path) -> None:
    """Wait until a folder with all that is in it is on disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)
