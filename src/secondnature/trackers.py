"""Experiment trackers: where a run's training and its figures are logged, through accelerate's trackers."""

import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from secondnature.types import UserError

PROJECT = "secondnature"  # of wandb, trackio and mlflow, where their own environment names none
FIGURES = ("curation", "systems", "agreement", "regression", "contamination", "seconds")  # of report.json


@dataclass(frozen=True)
class Tracking:
    """The trackers of a run, each named as its package, and the run's folder."""

    names: Sequence[str]
    folder: Path
    say: Callable[[str], None]

    def label(self, adapter: str, digest: str) -> str:
        """What trackers call the training that made `adapter`: a resumed one goes on under its name, another has another."""
        where = hashlib.sha256(f"{self.folder.resolve()} {digest}".encode()).hexdigest()[:8]
        return "-".join([self.folder.resolve().name, *([] if adapter == "adapter" else [adapter]), where])

    def failed(self, name: str, error: Exception) -> None:
        """Say that a tracker failed: no run ends for it."""
        self.say(f"{name}: {type(error).__name__}: {error} (the run goes on, this is not tracked)".replace("\n", " "))


def check_trackers(names: Sequence[str]) -> None:
    """Raises UserError, before anything is paid for, where a tracker cannot be used."""
    for package in (*names, "accelerate") if names else ():
        found = importlib.util.find_spec(package)
        if found is None or found.loader is None:  # a folder called wandb, as it leaves them, is no package
            extra = "'secondnature[local]'" if package == "accelerate" else package
            raise UserError(
                f"train.report_to: {package} is not installed: pip install {extra}, or leave train.report_to out"
            )
    if "wandb" in names and os.environ.get("WANDB_MODE", "online") == "online" and not _wandb_key():
        raise UserError("train.report_to: wandb has no key: run `wandb login`, or set WANDB_MODE=offline")


def _wandb_key() -> bool:
    wandb = importlib.import_module("wandb")
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:
        return True  # an older wandb, which cannot be asked without a question to the user
    except Exception as error:  # a tracker may raise anything
        raise UserError(f"train.report_to: wandb: {error}") from error


@contextmanager
def tracked(tracking: Tracking, label: str) -> Generator[None]:
    """While a Trainer works, its trackers log to the run `label`, which `log_figures` adds to."""
    with _environment_restored():
        for name in tracking.names:
            try:
                os.environ.update(_environment(name, tracking.folder, label))
            except Exception as error:  # noqa: BLE001  # a tracker may raise anything
                tracking.failed(name, error)
        yield
        wandb: Any = sys.modules.get("wandb")
        if "wandb" in tracking.names and wandb is not None and wandb.run is not None:
            try:
                wandb.finish()  # the Trainer's callback leaves it open, and the next training would log to it
            except Exception as error:  # noqa: BLE001
                tracking.failed("wandb", error)


@contextmanager
def _environment_restored() -> Generator[None]:
    """Trackers are told by the environment where to log, and mlflow writes to it: another run in this process logs elsewhere."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for key in os.environ.keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)


def _environment(name: str, folder: Path, label: str) -> dict[str, str]:
    """What makes the Trainer's own callback log to the run `label`."""
    if name == "tensorboard":
        return {"TENSORBOARD_LOGGING_DIR": str(_logs(folder) / label)}
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        return {"WANDB_PROJECT": project, "WANDB_RUN_ID": label, "WANDB_RESUME": "allow"}
    if name == "mlflow":
        return {"MLFLOW_RUN_ID": _mlflow_run(folder, label)}
    return {}


def _logs(folder: Path) -> Path:
    return Path(os.environ.get("TENSORBOARD_LOGGING_DIR", folder / "logs"))


def _mlflow_run(folder: Path, label: str) -> str:
    """The id of the run that is called `label`, made where there is none: in the folder's `mlruns` if not told otherwise."""
    mlflow = importlib.import_module("mlflow")
    if (store := os.environ.get("MLFLOW_TRACKING_URI")) is None:
        store = (folder.resolve() / "mlruns").as_uri()
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # plain files, which need no database
    mlflow.set_tracking_uri(store)
    experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)).experiment_id
    client = mlflow.MlflowClient()
    found = client.search_runs([experiment], f"attributes.run_name = '{label}'")
    return (found[0] if found else client.create_run(experiment, run_name=label)).info.run_id


def log_figures(
    tracking: Tracking, label: str, report: Mapping[str, Any], recipe: Mapping[str, Any], step: int
) -> None:
    """Add the figures of `report.json`, its verdict and the recipe to the tracker runs `label`, at the last `step`.

    A tracker that fails is named in a warning.
    """
    metrics = dict(figures({name: report.get(name) for name in FIGURES}))
    texts = {"verdict": str(report["verdict"]), "reason": str(report["reason"])}
    params = {f"recipe.{name}": value for name, value in _params(recipe)}
    for name in tracking.names:
        try:
            with _environment_restored():
                _log(name, tracking.folder, label, metrics, texts, params, step)
        except Exception as error:  # noqa: BLE001  # a tracker may raise anything
            tracking.failed(name, error)


def _log(
    name: str,
    folder: Path,
    label: str,
    metrics: Mapping[str, float],
    texts: Mapping[str, str],
    params: Mapping[str, str],
    step: int,
) -> None:
    tracking = importlib.import_module("accelerate.tracking")
    tracking.PartialState()  # which accelerate's trackers ask whether they are the main process
    if name == "tensorboard":
        tracker = tracking.TensorBoardTracker(label, _logs(folder))
    elif name == "wandb":
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        tracker = tracking.WandBTracker(project, id=label, name=label, resume="allow")
    elif name == "trackio":
        tracker = tracking.TrackioTracker(PROJECT, name=label, resume="allow")
    else:
        run = _mlflow_run(folder, label)
        tracker = tracking.MLflowTracker(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), run_id=run)
    tracker.start()
    try:
        if name == "mlflow":
            _mlflow_texts(texts, params)
        elif name == "tensorboard":  # as a text: its parameters would be a run of their own
            texts = {**texts, "recipe": "\n".join(f"    {key}: {value}" for key, value in params.items())}
        else:
            tracker.store_init_configuration(dict(params))
        tracker.log({**metrics, **({} if name == "mlflow" else texts)}, step=step)
    finally:
        tracker.finish()


def _mlflow_texts(texts: Mapping[str, str], params: Mapping[str, str]) -> None:
    """Texts are tags. A parameter is written once: one that has changed since is a tag with its new value."""
    mlflow = importlib.import_module("mlflow")
    run = mlflow.active_run().info.run_id
    written = mlflow.MlflowClient().get_run(run).data.params
    mlflow.log_params({key: value for key, value in params.items() if key not in written})
    mlflow.set_tags({**texts, **{k: v for k, v in params.items() if written.get(k, v) != v}})


def figures(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested mappings, by their path, such as "systems/distilled/accuracy"; of an interval both its ends."""
    if isinstance(value, Mapping):
        for key, below in cast("Mapping[str, object]", value).items():
            part = re.sub(r"[^0-9A-Za-z_. :/-]", "_", key)  # as mlflow takes them
            yield from figures(below, f"{name}/{part}" if name else part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, float(value)
    elif name.endswith("_ci") and isinstance(value, Sequence):
        low, high = cast("Sequence[float]", value)
        yield from ((f"{name}_low", low), (f"{name}_high", high))


def _params(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the recipe with its value as text."""
    for key, value in recipe.items():
        if isinstance(value, Mapping) and value:
            yield from _params(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{prefix}{re.sub(r'[^0-9A-Za-z_. :/-]', '_', key)}", text[:500]
