"""Training on a tiny random model: what is trained on, resuming, and the whole job on the user's own data."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from secondnature.adapters import (  # noqa: E402
    _resumes_from,  # pyright: ignore[reportPrivateUsage]
    damage,
)
from secondnature.engines import open_engine  # noqa: E402
from secondnature.engines.chat import encode, end_of_turn  # noqa: E402
from secondnature.recipe import Train  # noqa: E402
from secondnature.train import (  # noqa: E402
    COMPLETE,
    CONFIG,
    IGNORED,
    WEIGHTS,
    TrainingExample,
    seal,
    tokens,
    train,
)
from secondnature.types import Message, UserError  # noqa: E402
from tiny import tiny_adapter, tiny_model  # noqa: E402

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("trusting")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"), stops=True)


def options(**changes: Any) -> Train:
    values = {"num_train_epochs": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "save_steps": 2}
    return Train(**{**values, "lora_r": 8, "lora_alpha": 16, **changes})


PAIRS = [TrainingExample((Message("user", f"is {i} even"),), "yes" if i % 2 == 0 else "no") for i in range(16)]


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

    pairs = [TrainingExample((Message("user", "word " * i),), "yes " * (1 + i % 3)) for i in range(1, 9)]
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


@pytest.fixture(scope="module")
def stopped(model: Path, tmp_path_factory: Any) -> Path:
    """The checkpoints of a training that ended in its fifth step."""

    def stop(step: int, steps: int, loss: float | None, tokens: int) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(PAIRS, str(model), options(), folder / "a", folder / "c", digest="d", dtype="float32", on_step=stop)
    return folder / "c"


def resumed(model: Path, adapter: Path, checkpoints: Path) -> tuple[int, list[str]]:
    """The first step that training goes on with, and what it says."""
    seen: list[int] = []
    said: list[str] = []
    train(
        PAIRS, str(model), options(), adapter, checkpoints, digest="d", dtype="float32",
        on_step=lambda step, *_: seen.append(step), say=said.append,
    )  # fmt: skip
    assert (adapter / "training.json").exists()
    return min(seen), said


@pytest.mark.parametrize(
    ("file", "content"),
    [(WEIGHTS, b""), ("optimizer.pt", b"x"), ("trainer_state.json", None), (COMPLETE, b""), (COMPLETE, None)],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    file: str, content: bytes | None, model: Path, stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped, tmp_path / "c")
    last = tmp_path / "c" / "checkpoint-4"
    (last / file).unlink()
    if content is not None:
        (last / file).write_bytes(content)
    (tmp_path / "c" / "checkpoint-mine").mkdir()
    step, said = resumed(model, tmp_path / "adapter", tmp_path / "c")
    assert step == 3
    quiet = file == COMPLETE and content is None  # as a kill leaves it
    assert said == ([] if quiet else ["checkpoint-4: damaged, and removed; training goes on from checkpoint-2"])


def test_where_no_checkpoint_is_whole_training_starts_again(model: Path, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "c")
    for folder in (tmp_path / "c").glob("checkpoint-*"):
        (folder / "optimizer.pt").write_bytes(b"")
    step, said = resumed(model, tmp_path / "adapter", tmp_path / "c")
    assert step == 1
    assert said == ["checkpoint-2, checkpoint-4: damaged, and removed; training starts again"]


def test_a_checkpoint_is_on_disk_before_it_is_marked_as_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("a", "inner/b"):
        (tmp_path / name).write_text(name)
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        there = {path.stat().st_ino: str(path.relative_to(tmp_path)) for path in (tmp_path, *tmp_path.rglob("*"))}
        synced.append(there[os.fstat(descriptor).st_ino])
        assert (tmp_path / COMPLETE).exists() == (len(synced) > 4)

    monkeypatch.setattr(os, "fsync", fsync)
    seal(tmp_path)
    assert {*synced[:4]} == {"a", "inner", "inner/b", "."}
    assert synced[4:] == [COMPLETE, "."]
    assert set(json.loads((tmp_path / COMPLETE).read_text())) == {"a", "inner/b"}


@pytest.mark.parametrize(("bytes_", "steps"), [(20_000, 2), (100_000, 2), (20_000, 100)])
def test_a_full_disk_while_the_adapter_is_saved_is_one_line(
    bytes_: int, steps: int, model: Path, tmp_path: Path
) -> None:
    """The first is too little for the adapter, the second for the optimizer, the third for the adapter at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, before[1]))
    try:
        with pytest.raises(UserError, match="could not be written .*is the disk full"):
            train(
                PAIRS, str(model), options(save_steps=steps), tmp_path / "adapter", tmp_path / "c" / "x", digest="d",
                dtype="float32",
            )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "adapter").exists()
    step, _ = resumed(model, tmp_path / "adapter", tmp_path / "c" / "x")
    assert step == 1


def test_training_says_what_it_wrote_and_how_fast_it_was(model: Path, tmp_path: Path) -> None:
    found: dict[int, dict[str, Any]] = {}
    for steps in (1, 4):
        adapter = tmp_path / str(steps)
        found[steps] = train(
            PAIRS,
            str(model),
            options(max_steps=steps),
            adapter,
            tmp_path / "c",
            digest="d",
            dtype="float16",
            device="cpu",
        )
        files = {name: hashlib.sha256((adapter / name).read_bytes()).hexdigest() for name in (WEIGHTS, CONFIG)}
        assert json.loads((adapter / "training.json").read_text())["files"] == files
        assert damage(adapter) is None
    trained = {steps: one["tokens_per_second"] * one["seconds"] for steps, one in found.items()}
    assert trained[4] == pytest.approx(found[4]["tokens"], rel=1e-3), "four steps of 4 are the 16 examples, once"
    assert trained[1] == pytest.approx(found[1]["tokens"] / 4, rel=0.2)


@pytest.mark.parametrize("name", ["adapter", "adapter.partial", "c", "c/x"])
def test_what_is_in_the_way_of_the_adapter_is_known_before_training(name: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    path = tmp_path / name
    if path.is_dir():
        path.rmdir()
    for make in (path.touch, lambda: path.symlink_to(tmp_path / "nowhere")):
        make()
        with pytest.raises(UserError, match=f"{path} is no folder.*move it away"):
            train(PAIRS, str(model), options(), tmp_path / "adapter", tmp_path / "c" / "x", digest="d")
        path.unlink()


def test_an_adapter_of_an_older_version_and_one_that_cannot_be_opened_are_refused(model: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(model, tmp_path / "adapter")
    (adapter / "training.json").write_text('{"digest": "d"}')
    assert "older version" in (damage(adapter) or "")
    files = {name: hashlib.sha256((adapter / name).read_bytes()).hexdigest() for name in (WEIGHTS, CONFIG)}
    (adapter / "training.json").write_text(json.dumps({"digest": "d", "files": files}))
    assert damage(adapter) is None
    engine = open_engine(str(model), "transformers", "float32", "cpu")
    weights, config = (adapter / WEIGHTS).read_bytes(), json.loads((adapter / CONFIG).read_text())
    broken = {
        WEIGHTS: [b"", weights[: len(weights) // 2], b"\xff" * 100, None],
        CONFIG: [b"", b"{", b"[]", None, *(json.dumps({**config, "r": r}).encode() for r in (99, 0, None))],
    }
    for name, contents in broken.items():
        whole = (adapter / name).read_bytes()
        for content in contents:
            (adapter / name).unlink()
            if content is not None:
                (adapter / name).write_bytes(content)
            with pytest.raises(UserError, match=f"adapter {adapter}: ") as refused:
                engine.load_adapter("a", str(adapter))
            assert "\n" not in str(refused.value)
            (adapter / name).write_bytes(whole)
    engine.load_adapter("a", str(adapter))
    engine.close()


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
    return [sys.executable, "-m", "secondnature", "distill", str(recipe), "--out", str(out), "--trust"]


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
    assert f"To go on: secondnature distill {own_data} --out {out} --trust --set train.num_train_epochs=400" in said


def test_ctrl_c_before_a_checkpoint_says_that_training_starts_again(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt, match="training starts again: there is a checkpoint every 10 steps"),
        _resumes_from(tmp_path / "checkpoints", 10),
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
