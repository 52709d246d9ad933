"""Trackers: what they were told, read back with their own readers; and that none of them ends a run."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished
from secondnature.trackers import Tracking, check_trackers, figures, log_figures
from secondnature.types import UserError

pytestmark = pytest.mark.usefixtures("trusting")

REPORT = {
    "verdict": "ship",
    "reason": "It is.",
    "curation": {"kept": 7, "discarded": {"swap: another answer": 2}, "thresholds": [{"votes": 1}]},
    "systems": {"system1": {"n": 4, "accuracy": 0.25, "accuracy_ci": [0.1, 0.5]}, "distilled": None},
}


def test_figures_are_numbers_by_their_path() -> None:
    assert dict(figures({"a": {"b": 1, "none": None, "yes": True, "text": "x"}, "x_ci": [0.1, 0.2], "[c]": 2.5})) == {
        "a/b": 1.0, "x_ci_low": 0.1, "x_ci_high": 0.2, "_c_": 2.5,
    }  # fmt: skip


def test_another_training_has_another_name_and_a_resumed_one_the_same(tmp_path: Path) -> None:
    tracking = Tracking(["mlflow"], tmp_path / "mine", print)
    names = [tracking.label(*key) for key in (("adapter", "a"), ("adapter", "b"), ("control_unfiltered", "a"))]
    assert len(set(names)) == 3
    assert tracking.label("adapter", "a") == names[0]
    assert names[0].startswith("mine-")
    assert names[2].startswith("mine-control_unfiltered-")
    assert Tracking([], tmp_path / "other" / "mine", print).label("adapter", "a") != names[0]


@pytest.mark.parametrize("name", ["trackio", ["tensorboard", "trackio"]])
def test_a_tracker_that_is_not_installed_is_one_line_before_anything_is_sampled(
    recipe: Callable[..., Path],
    cli: Callable[..., Finished],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: object,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "trackio" else find(n))
    done = cli("distill", recipe(train={"report_to": name}), "--out", tmp_path / "run")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: train.report_to: trackio is not installed: pip install trackio")
    assert not (tmp_path / "run" / "calls.sqlite").exists()


def test_a_folder_that_a_tracker_left_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if "site-packages" not in p)])
    with pytest.raises(UserError, match="trackio is not installed"):
        check_trackers(["trackio"])


def test_an_unknown_tracker_is_an_error_that_names_those_there_are(
    recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    done = cli("distill", recipe(train={"report_to": "tensorbord"}), "--out", tmp_path / "run")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "train.report_to" in line
    assert "'mlflow', 'tensorboard', 'trackio' or 'wandb'" in line
    assert cli("distill", recipe(train={"report_to": "none"}), "--out", tmp_path / "run").returncode == 0


pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("mlflow")


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def mlflow_runs(store: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(store.resolve().as_uri())
    [experiment] = [e for e in client.search_experiments() if e.name == "secondnature"]
    return client, list(client.search_runs([experiment.experiment_id]))


def test_a_tracker_that_fails_is_a_warning_and_the_next_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where tensorboard's folder should be")
    said: list[str] = []
    log_figures(Tracking(["tensorboard", "mlflow"], tmp_path, said.append), "r", REPORT, {"model": "m"}, 3)
    [line] = said
    assert line.startswith("tensorboard: ")
    assert "the run goes on" in line
    assert (tmp_path / "mlruns").is_dir()


def test_figures_told_twice_are_one_run_and_a_changed_recipe_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tracking = Tracking(["mlflow"], tmp_path, said.append)
    log_figures(tracking, "r", REPORT, {"evaluate": {"margin": 0.05}, "model": "m"}, 3)
    log_figures(tracking, "r", {**REPORT, "verdict": "inconclusive"}, {"evaluate": {"margin": 0.1}, "model": "m"}, 3)
    assert said == []
    _, [run] = mlflow_runs(tmp_path / "mlruns", monkeypatch)
    assert run.data.params == {"recipe.evaluate.margin": "0.05", "recipe.model": "m"}
    assert run.data.tags["recipe.evaluate.margin"] == "0.1"
    assert run.data.tags["verdict"] == "inconclusive"
    assert run.data.metrics["curation/discarded/swap: another answer"] == 2
    assert run.data.metrics["systems/system1/accuracy_ci_high"] == 0.5


@pytest.fixture(scope="module")
def own_recipe(tmp_path_factory: Any) -> Path:
    from tiny import tiny_model

    folder = tmp_path_factory.mktemp("own")
    model = tiny_model(folder / "model", stops=True)
    for part, count in (("train", 16), ("test", 6)):
        rows = [{"prompt": f"{part} {i}: yes or no", "answer": "yes"} for i in range(count)]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "one.py").write_text(
        "async def noisy(example, ask):\n"
        "    reply = await ask(example.text)\n"
        "    return 'yes' if len(reply) % 4 else 'no'\n"
    )
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"""
model: {model}
data: {{train: train.jsonl, test: test.jsonl}}
answer: {{kind: yes_no}}
technique: {{name: "one.py:noisy"}}
sampling: {{n: 3, temperature: 1.0, max_tokens: 8}}
verify: {{min_agreement: 0.6}}
train: {{num_train_epochs: 3, learning_rate: 1.0e-2, per_device_train_batch_size: 4, report_to: [tensorboard, mlflow]}}
evaluate: {{latency_prompts: 1, voted: false}}
engine: {{kind: transformers, dtype: float32, device: cpu}}
""")
    return recipe


@pytest.fixture(scope="module")
def tracked_run(own_recipe: Path, tmp_path_factory: Any) -> Path:
    """A whole run of a tiny model with two trackers."""
    from typer.testing import CliRunner

    from secondnature.cli import app

    out = tmp_path_factory.mktemp("tracked") / "run"
    done = CliRunner().invoke(app, ["distill", str(own_recipe), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    assert "not tracked" not in done.stderr
    return out


@pytest.mark.model
def test_tensorboard_has_the_training_and_the_figures_of_the_report(tracked_run: Path) -> None:
    report = json.loads((tracked_run / "report.json").read_text())
    history = json.loads((tracked_run / "adapter" / "training.json").read_text())["history"]
    [folder] = (tracked_run / "logs").iterdir()
    found = events(folder)
    assert [(e.step, e.value) for e in found.Scalars("train/loss")] == [
        (entry["step"], pytest.approx(entry["loss"], rel=1e-5)) for entry in history
    ]
    for name, system in report["systems"].items():
        if system is not None:
            for figure in ("accuracy", "agreement_with_system2", "tokens_per_answer"):
                [event] = found.Scalars(f"systems/{name}/{figure}")
                assert event.value == pytest.approx(system[figure], rel=1e-5)
                assert event.step == report["training"]["steps"]
    assert {"system1", "system2", "distilled"} <= {n for n, s in report["systems"].items() if s is not None}
    assert found.Scalars("curation/kept")[0].value == report["curation"]["kept"]
    text = found.Tensors("verdict/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == report["verdict"]
    recipe = found.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "recipe.train.learning_rate: 0.01" in recipe


@pytest.mark.model
def test_mlflow_has_the_training_and_the_figures_in_one_run(tracked_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads((tracked_run / "report.json").read_text())
    client, [run] = mlflow_runs(tracked_run / "mlruns", monkeypatch)
    losses = sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss"))
    assert losses == [(entry["step"], pytest.approx(entry["loss"])) for entry in report["training"]["history"]]
    assert run.data.metrics["systems/distilled/accuracy"] == report["systems"]["distilled"]["accuracy"]
    assert run.data.metrics["curation/samples"] == report["curation"]["samples"]
    assert run.data.metrics["agreement/ceiling"] == report["agreement"]["ceiling"]
    assert run.data.tags["verdict"] == report["verdict"]
    assert run.data.tags["reason"] == report["reason"]
    assert run.data.params["recipe.sampling.n"] == "3"
    assert run.data.params["learning_rate"] == "0.01", "the Trainer's own"
    assert run.info.status == "FINISHED"


@pytest.mark.model
def test_another_tracker_trains_nothing_again_and_another_training_is_another_run(
    tracked_run: Path, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tracked_run, run)
    before = (run / "adapter" / "training.json").read_bytes()
    done = cli("train", run, "--set", "train.report_to=none")
    assert "was trained on just this" in done.stderr
    assert (run / "adapter" / "training.json").read_bytes() == before
    sets = ["--set", "train.report_to=[tensorboard, mlflow]", "--set", "train.learning_rate=5e-3"]
    assert "not tracked" not in cli("train", run, *sets).stderr
    assert (run / "adapter" / "training.json").read_bytes() != before
    assert len(list((run / "logs").iterdir())) == 2
    assert len(mlflow_runs(run / "mlruns", monkeypatch)[1]) == 2


@pytest.mark.model
def test_a_tracker_that_fails_while_training_ends_no_training(
    own_recipe: Path, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations.integration_utils import TensorBoardCallback

    def full(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full\nreally")

    monkeypatch.setattr(TensorBoardCallback, "on_log", full)
    done = cli("distill", own_recipe, "--out", tmp_path / "run", "--set", "train.report_to=tensorboard")
    assert done.returncode == 0
    [line] = [line for line in done.stderr.splitlines() if "not tracked" in line]
    assert line.startswith("tensorboard: OSError: the disk is full really")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["systems"]["distilled"]["n"] == 6


@pytest.mark.model
def test_a_server_that_is_away_ends_no_run(
    own_recipe: Path, tmp_path: Path, cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = cli("distill", own_recipe, "--out", tmp_path / "run", "--set", "train.report_to=mlflow")
    assert done.returncode == 0
    assert all("mlflow: " in line for line in done.stderr.splitlines() if "not tracked" in line)
    assert "not tracked" in done.stderr
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "run" / "mlruns").exists()
