"""What the tests share: data files, recipes for the fake engine, the command line as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from browser import chromium
from secondnature.cli import app

Finished = subprocess.CompletedProcess[str]


def rows_of(part: str, number: int) -> list[dict[str, Any]]:
    """Labelled rows, two to a group."""
    return [
        {
            "id": f"{part}-{i}",
            "prompt": f"Is {part} number {i} even?",
            "answer": "no" if i % 2 else "yes",
            "group": f"{part}-{i // 2}",
            "kind": "odd" if i % 2 else "even",
        }
        for i in range(number)
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n`, the tests of a file stay in one process, which makes what they share once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture(autouse=True, scope="session")
def no_settings_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["SECONDNATURE_CONFIG"] = str(tmp_path_factory.mktemp("settings"))


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of settings of each test's own, where nothing is trusted yet."""
    folder = tmp_path_factory.mktemp("settings")
    monkeypatch.setenv("SECONDNATURE_CONFIG", str(folder))
    return folder


class Everything(dict[str, str]):
    def __contains__(self, key: object) -> bool:
        return True


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who said yes to all the code and keys that the test's recipes name."""
    monkeypatch.setattr("secondnature.trust._given", Everything)


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[[str, Iterable[Mapping[str, Any]]], Path]:
    """Writes a JSON Lines file."""

    def write(name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def recipe(tmp_path: Path, jsonl: Callable[[str, Iterable[Mapping[str, Any]]], Path]) -> Callable[..., Path]:
    """Writes a recipe for the fake engine, and its data files where they are not there; keys replace its sections."""

    def write(*, prompts: int = 12, held_out: int = 8, **sections: Any) -> Path:
        for part, number in (("train", prompts), ("test", held_out)):
            if not (tmp_path / f"{part}.jsonl").exists():
                jsonl(f"{part}.jsonl", rows_of(part, number))
        content: dict[str, Any] = {
            "model": "fake",
            "data": {"train": "train.jsonl", "dev": "test.jsonl", "test": "test.jsonl", "slices": ["kind"]},
            "answer": {"kind": "yes_no"},
            "technique": {"name": "cot"},
            "evaluate": {"latency_prompts": 2},
            "engine": {"kind": "fake"},
            **sections,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}), encoding="utf-8")
        return path

    return write


@pytest.fixture
def secondnature() -> Callable[..., Finished]:
    """Runs the command line as a process of its own."""

    def run(*arguments: str | Path, **options: Any) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "secondnature", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "NO_COLOR": "1"},
            **options,
        )

    return run


@pytest.fixture
def cli() -> Callable[..., Finished]:
    """Runs the command line in this process, which is faster; an error that it does not catch is raised."""

    def run(*arguments: str | Path) -> Finished:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Finished(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    """A Chromium that a module's tests share: while it runs, asyncio takes this thread's loop for a running one."""
    with chromium() as started:
        yield started
