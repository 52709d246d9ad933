"""Training on a tiny random model: what is trained on, resuming, and the whole job on the user's own data."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from secondnature.adapters import _told_where_it_goes_on  # noqa: E402  # pyright: ignore[reportPrivateUsage]
from secondnature.engines.chat import encode, end_of_turn  # noqa: E402
from secondnature.train import IGNORED, Pair, TrainOptions, tokens, train  # noqa: E402
from secondnature.types import Message  # noqa: E402
from tiny import tiny_model  # noqa: E402

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"), stops=True)


def options(**changes: Any) -> TrainOptions:
    values: dict[str, Any] = {
        "num_train_epochs": 4,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "weight_decay": 0.0,
        "max_steps": -1,
        "save_steps": 2,
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "seed": 0,
    }
    return TrainOptions(**{**values, **changes})


PAIRS = [Pair((Message("user", f"is {i} even"),), "yes" if i % 2 == 0 else "no") for i in range(16)]


def test_the_tokens_trained_on_are_the_tokens_served(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    pair = PAIRS[0]
    row = tokens(tokenizer, pair, end_of_turn(tokenizer))
    served = encode(tokenizer, pair.prompt)
    assert row["input_ids"][: len(served)] == served
    answer = [label for label in row["labels"] if label != IGNORED]
    assert row["labels"] == [IGNORED] * len(served) + answer, "the loss is on the answer only"
    assert tokenizer.decode(answer) == "yes<|im_end|>", "the answer ends where an engine stops"
    turns = [m.as_dict() for m in (*pair.prompt, Message("assistant", pair.completion))]
    whole = tokenizer.apply_chat_template(turns, return_dict=False)
    assert whole[: len(row["input_ids"])] == row["input_ids"], "and the template writes the same turn"


def test_training_lowers_the_loss_and_saves_safetensors(model: Path, tmp_path: Path) -> None:
    summary = train(PAIRS, str(model), options(), tmp_path / "adapter", tmp_path / "c", digest="d", dtype="float32")
    assert summary["loss_last"] < summary["loss_first"]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert json.loads((tmp_path / "adapter" / "training.json").read_text())["digest"] == "d"


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loss_of_a_batch_is_that_of_its_rows_one_by_one(model: Path, tmp_path: Path, accumulation: int) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pairs = [Pair((Message("user", "word " * i),), "yes " * (1 + i % 3)) for i in range(1, 9)]
    summary = train(
        pairs, str(model), options(per_device_train_batch_size=8 // accumulation, max_steps=1,
        gradient_accumulation_steps=accumulation), tmp_path / "adapter", tmp_path / "c", digest="d", dtype="float32",
    )  # fmt: skip
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    plain: Any = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32
    )  # an untrained adapter changes nothing
    total, count = 0.0, 0
    for pair in pairs:
        row = {name: torch.tensor([ids]) for name, ids in tokens(tokenizer, pair, end_of_turn(tokenizer)).items()}
        answer = int((row["labels"] != IGNORED).sum())
        with torch.no_grad():
            total += float(plain(**row).loss) * answer
        count += answer
    assert summary["loss_first"] == pytest.approx(total / count, rel=1e-3)


def test_training_goes_on_from_its_last_checkpoint(model: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill_at_5(step: int, steps: int, loss: float | None, tokens: int) -> None:
        if step >= 5:
            raise Killed

    target, checkpoints = tmp_path / "adapter", tmp_path / "checkpoints"
    with pytest.raises(Killed):
        train(PAIRS, str(model), options(), target, checkpoints, digest="d", dtype="float32", on_step=kill_at_5)
    assert not target.exists()
    seen: list[int] = []
    resumed = train(
        PAIRS, str(model), options(), target, checkpoints, digest="d", dtype="float32",
        on_step=lambda step, steps, loss, tokens: seen.append(step),
    )  # fmt: skip
    assert min(seen) == 5, "steps 1 to 4 are in the checkpoint"
    whole = train(PAIRS, str(model), options(), tmp_path / "whole", tmp_path / "c2", digest="d", dtype="float32")
    assert resumed["loss_last"] == pytest.approx(whole["loss_last"], rel=1e-3)
    assert resumed["steps"] == whole["steps"]
    assert not checkpoints.exists()


@pytest.fixture
def own_data(tmp_path: Path, model: Path) -> Path:
    for part, count in (("train", 24), ("test", 10)):
        rows = [{"prompt": f"{part} {i}: yes or no", "answer": "yes", "kind": "ab"[i % 2]} for i in range(count)]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "one.py").write_text(
        "async def noisy(example, ask):\n"
        "    reply = await ask(example.text)\n"
        "    return 'yes' if len(reply) % 4 else 'no'\n"
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"""
model: {model}
data: {{train: train.jsonl, test: test.jsonl, slices: [kind]}}
answer: {{kind: yes_no}}
technique: {{name: "one.py:noisy"}}
sampling: {{n: 3, temperature: 1.0, max_tokens: 8}}
verify: {{min_agreement: 0.6}}
train: {{num_train_epochs: 6, learning_rate: 1.0e-2, per_device_train_batch_size: 4, save_steps: 2}}
evaluate: {{latency_prompts: 2}}
engine: {{dtype: float32, device: cpu}}
""")
    return recipe


def command(recipe: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "secondnature", "distill", str(recipe), "--out", str(out)]


def test_the_whole_job_survives_kills_in_every_stage(own_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    marks = ["calls.sqlite", "curated.jsonl", "checkpoints", "adapter"]  # each file appears in a later stage
    for mark in marks:
        process = subprocess.Popen(command(own_data, out), stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not (out / mark).exists():
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command(own_data, out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["curation"]["kept"] > 0
    assert report["training"]["examples"] == report["curation"]["kept"]
    assert report["systems"]["distilled"]["n"] == 10
    assert report["systems"]["system1"]["n"] == 10
    assert (out / "report.html").exists()
    before = (out / "curated.jsonl").read_bytes()
    subprocess.run([sys.executable, "-m", "secondnature", "verify", str(out)], check=True, capture_output=True)
    assert (out / "curated.jsonl").read_bytes() == before


def test_ctrl_c_in_training_says_where_it_goes_on(own_data: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command(own_data, out), "--set", "train.num_train_epochs=400"],
            stderr=file,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    while process.poll() is None and not list(out.glob("checkpoints/*/checkpoint-*/.complete")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    said = log.read_text()
    assert "train: loading the model, to train on" in said
    last = max(int(path.parent.name.partition("-")[2]) for path in out.glob("checkpoints/*/checkpoint-*/.complete"))
    assert f"stopped; training goes on from step {last}: there is a checkpoint every 2 steps (train.save_steps)" in said
    assert f"To go on: secondnature distill {own_data} --out {out} --set train.num_train_epochs=400" in said


def test_ctrl_c_before_a_checkpoint_says_that_training_starts_again(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt, match="training starts again: there is a checkpoint every 10 steps"),
        _told_where_it_goes_on(tmp_path / "checkpoints", 10),
    ):
        raise KeyboardInterrupt


def test_every_schedule_that_a_recipe_may_name_needs_nothing_more() -> None:
    from typing import get_args

    from transformers import get_scheduler

    from secondnature.recipe import Schedule

    for name in get_args(Schedule):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = get_scheduler(name, optimizer, num_warmup_steps=1, num_training_steps=10)
        optimizer.step()
        schedule.step()
