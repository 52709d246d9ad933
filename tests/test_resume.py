"""Kill a run anywhere, run the same command again: nothing is lost, nothing is paid twice, the result is the same."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from conftest import Finished

pytestmark = pytest.mark.usefixtures("trusting")

Rows = dict[str, tuple[Any, ...]]
DEADLINE = 60.0


def start(*arguments: str | Path, log: Path) -> "subprocess.Popen[bytes]":
    def ctrl_c_works() -> None:  # it is ignored where pytest itself was started in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "secondnature", *map(str, arguments)],
            stdout=file,
            stderr=file,
            preexec_fn=ctrl_c_works,
            env={**os.environ, "NO_COLOR": "1"},
        )


def stored(run: Path) -> Rows:
    """All columns of every stored call, by key."""
    with contextlib.closing(sqlite3.connect(run / "calls.sqlite")) as db:
        names = ", ".join(f"(SELECT name FROM names WHERE id = {column}) {column}" for column in ("model", "decoding"))
        reply = "text, finish, prompt_tokens, completion_tokens, seconds, logprob"
        return {row[0]: row for row in db.execute(f"SELECT key, {names}, {reply} FROM calls")}


OF_TRAIN = "example IN (SELECT id FROM names WHERE name LIKE 'train-%')"  # made for a training prompt


def count(run: Path, where: str = "1") -> int:
    """How many such calls are stored by now; 0 where there is no store yet."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{run / 'calls.sqlite'}?mode=ro", uri=True)) as db:
            return int(db.execute(f"SELECT COUNT(*) FROM calls WHERE {where}").fetchone()[0])
    except sqlite3.Error:
        return 0


def result(run: Path) -> dict[str, Any]:
    """`report.json` without what a clock decides."""
    report = json.loads((run / "report.json").read_text())
    del report["seconds"], report["curation"]["seconds"]
    for system in filter(None, report["systems"].values()):
        for speed in ("answers_per_second", "tokens_per_second"):
            system.pop(speed, None)
    return report


def wait_for(ready: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Until `ready`, or until the process has ended."""
    started = time.monotonic()
    while process.poll() is None and not ready():
        assert time.monotonic() - started < DEADLINE
        time.sleep(0.002)


def test_killed_again_and_again_a_run_comes_to_the_same_bytes(recipe: Callable[..., Path], tmp_path: Path) -> None:
    file = recipe(prompts=150, held_out=40)
    whole, killed, log = tmp_path / "A", tmp_path / "B", tmp_path / "log"
    started = time.monotonic()
    assert start("distill", file, "--out", whole, log=log).wait(DEADLINE) == 0, log.read_text()
    took = time.monotonic() - started
    expected = stored(whole)
    sampled = count(whole, "decoding IN (SELECT id FROM names WHERE name LIKE '%0.7%') AND " + OF_TRAIN)
    assert 0 < sampled < len(expected)

    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed}")
    draw = random.Random(seed)

    def calls(low: float, high: float) -> Callable[[], bool]:
        target = int(draw.uniform(low, high))
        return lambda: count(killed) >= target

    def shown(text: str) -> Callable[[], bool]:
        return lambda: text in log.read_text()

    moments: list[tuple[Callable[[], bool], float]] = [
        (calls(1, sampled / 2), 0.0),
        (calls(sampled / 2, sampled), 0.0),
        (lambda: True, draw.uniform(0, 0.7 * took)),
        (shown("sample System 2:"), draw.uniform(0, 0.05)),  # verifying
        (shown("verify:"), draw.uniform(0, 0.05)),  # training
        (calls(sampled + 1, len(expected)), 0.0),  # evaluating
        (shown("evaluate System 1,"), draw.uniform(0, 0.02)),  # reporting
        (shown("evaluate System 1,"), draw.uniform(0, 0.15)),
    ]
    kills = partly = 0
    before: Rows = {}
    for ready, delay in moments:
        process = start("distill", file, "--out", killed, log=log)
        wait_for(ready, process)
        time.sleep(delay)
        process.kill()
        kills += process.wait(DEADLINE) == -signal.SIGKILL
        now = stored(killed) if count(killed) else {}
        partly += 0 < len(now) < len(expected)
        assert before.items() <= now.items(), "a stored call was lost or replaced"
        before = now
    assert kills >= 6
    assert partly >= 2

    assert start("distill", file, "--out", killed, log=log).wait(DEADLINE) == 0, log.read_text()
    assert stored(killed) == expected
    for name in ("curated.jsonl", "discarded.jsonl", "recipe.yaml"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert result(killed) == result(whole)
    assert not list(killed.glob("*.partial"))


@pytest.fixture
def finished(recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path) -> tuple[Path, Path]:
    """The recipe and the folder of a run that went to its end."""
    file, run = recipe(prompts=12, held_out=6), tmp_path / "run"
    done = cli("distill", file, "--out", run)
    assert done.returncode == 0, done.stderr
    assert " calls, " in done.stderr
    return file, run


def test_a_finished_run_is_run_again_without_a_call_and_to_the_same_bytes(
    finished: tuple[Path, Path], cli: Callable[..., Finished]
) -> None:
    file, run = finished
    before = stored(run), (run / "curated.jsonl").read_bytes(), result(run)
    again = cli("distill", file, "--out", run)
    assert again.returncode == 0
    assert " calls, " not in again.stderr
    (run / "curated.jsonl").unlink()
    assert cli("verify", run).returncode == 0
    assert (stored(run), (run / "curated.jsonl").read_bytes(), result(run)) == before


def test_a_changed_recipe_says_what_differs_and_redraws_only_what_depends_on_it(
    finished: tuple[Path, Path], cli: Callable[..., Finished]
) -> None:
    file, run = finished
    before = stored(run)
    trained = cli("distill", file, "--out", run, "--set", "train.learning_rate=1e-3")
    assert trained.returncode == 0
    assert "recipe changed: train.learning_rate: 0.0002 -> 0.001 (done again: train, evaluate)" in trained.stderr
    assert trained.stderr.count("recipe changed") == 1
    assert stored(run) == before
    assert " calls, " not in trained.stderr

    longer = cli("sample", run, "--set", "sampling.n=12")
    assert longer.returncode == 0
    assert "recipe changed: sampling.n: 8 -> 12" in longer.stderr
    assert before.items() < stored(run).items(), "the first samples of each prompt are those of before"


@pytest.mark.parametrize(
    ("stage", "override", "words"),
    [
        ("verify", "technique.name=rar", ["sampling is not finished"]),
        ("train", "sampling.n=20", ["was made with another recipe", "secondnature verify"]),
        ("sample", "sampling.max_tokens=5000", ["exceeds the model's context"]),
        ("verify", "model=another", ["what was sampled is of 'fake', not of 'another'", "--set model=another"]),
        ("train", "model=another", ["not of 'another'"]),
        ("evaluate", "model=another", ["not of 'another'"]),
        ("verify", "engine.dtype=float32", ["engine.dtype", "'auto'", "'float32'"]),
        ("verify", "engine.kind=transformers", ["engine.kind", "'fake'", "'transformers'"]),
    ],
)
def test_a_failed_command_leaves_the_run_as_it_was(
    stage: str,
    override: str,
    words: list[str],
    finished: tuple[Path, Path],
    cli: Callable[..., Finished],
) -> None:
    _, run = finished
    (run / "adapter").mkdir()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    failed = cli(stage, run, "--set", override)
    assert failed.returncode == 2
    error = failed.stderr.splitlines()[-1]
    assert all(word in error for word in words), error
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert "recipe changed" not in cli("verify", run).stderr


def test_a_changed_recipe_becomes_the_runs_when_it_can_be_worked_by(
    finished: tuple[Path, Path], cli: Callable[..., Finished]
) -> None:
    _, run = finished
    assert cli("sample", run, "--set", "model=another").returncode == 0
    assert "model: another" in (run / "recipe.yaml").read_text()
    assert cli("verify", run).returncode == 0, "the votes are the new model's"
    assert cli("verify", run, "--set", "train.learning_rate=1e-3").returncode == 0
    assert "learning_rate: 0.001" in (run / "recipe.yaml").read_text()


def test_a_run_from_before_it_was_noted_who_drew_is_taken_at_its_word(
    finished: tuple[Path, Path], cli: Callable[..., Finished]
) -> None:
    _, run = finished
    state = json.loads((run / "run.json").read_text())
    del state["drawn_by"]
    (run / "run.json").write_text(json.dumps(state))
    assert cli("verify", run).returncode == 0


def test_ctrl_c_while_sampling_keeps_the_new_recipe(recipe: Callable[..., Path], tmp_path: Path) -> None:
    file, run, log = recipe(prompts=400), tmp_path / "run", tmp_path / "log"
    assert start("sample", run, "--recipe", file, "--limit", "5", log=log).wait(DEADLINE) == 0
    first = count(run)
    process = start("sample", run, "--set", "limit=400", "--set", "technique.name=rar", log=log)
    wait_for(lambda: count(run) > first, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 130
    assert "name: rar" in (run / "recipe.yaml").read_text()
    assert start("sample", run, log=log).wait(DEADLINE) == 0
    assert "recipe changed" not in log.read_text()


def test_an_edited_file_is_announced_with_what_is_done_again(
    recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    for name in ("mine", "base"):
        (tmp_path / f"{name}.py").write_text("async def f(example, ask): return await ask(example.messages)\n")
    file, run = (
        recipe(
            technique={"name": "mine.py:f"}, evaluate={"baselines": {"b": {"name": "base.py:f"}}, "latency_prompts": 0}
        ),
        tmp_path / "run",
    )
    assert "changed" not in cli("distill", file, "--out", run).stderr
    for name in ("mine", "base"):
        (tmp_path / f"{name}.py").write_text("async def f(example, ask): return await ask('So? ' + example.text)\n")
    failed = cli("verify", run)
    assert failed.returncode == 2
    assert "mine.py changed (done again: sample, verify, train, evaluate)" in failed.stderr
    assert "base.py changed (done again: evaluate)" in failed.stderr
    assert "mine.py changed" in cli("sample", run).stderr, "it is said until a stage has used it"
    assert "changed" not in cli("verify", run).stderr


def test_a_folder_in_use_is_refused_in_one_line(
    recipe: Callable[..., Path], secondnature: Callable[..., Finished], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with FileLock(run / ".lock"):
        refused = secondnature("distill", recipe(), "--out", run)
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert line.startswith("error: ")
    assert "in use by another process" in line
    assert secondnature("distill", recipe(), "--out", run, "--quiet").returncode == 0, "the lock goes with its owner"


def test_a_run_killed_at_its_very_first_write_is_started_again(
    recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / "recipe.yaml.partial").write_text("mod")
    assert cli("sample", run, "--recipe", recipe(), "--quiet").returncode == 0


def test_ctrl_c_ends_a_run_with_130_and_says_how_to_go_on(recipe: Callable[..., Path], tmp_path: Path) -> None:
    file, run, log = recipe(prompts=400), tmp_path / "run", tmp_path / "log"
    process = start("distill", file, "--out", run, log=log)
    wait_for(lambda: count(run) > 0, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 130
    said = log.read_text()
    assert f"To go on: secondnature distill {file} --out {run}" in said
    assert "Traceback" not in said
    assert count(run) > 0
