"""Hugging Face datasets, through the real loader, from folders: no test reaches the hub."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished, rows_of
from secondnature.answers import KINDS
from secondnature.recipe_file import load_recipe
from secondnature.tasks.columns import Columns
from secondnature.tasks.data import Rows, read_lines
from secondnature.tasks.sources import Dataset, as_lines
from secondnature.types import UserError

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")

Cli = Callable[..., Finished]
Recipes = Callable[..., Path]
Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For this process, which may have imported the loader long ago, and for those that it starts."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("SECONDNATURE_CACHE", str(tmp_path / "cache"))


def folder(path: Path, parts: Mapping[str, list[dict[str, Any]]]) -> Path:
    path.mkdir(exist_ok=True)
    for part, rows in parts.items():
        (path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(source: Dataset, cache: Path, columns: Columns | None = None) -> Rows:
    columns = columns or Columns()
    return read_lines(as_lines(source, columns, cache), columns, KINDS["yes_no"])


def test_a_folder_of_json_lines_is_a_dataset_with_splits(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine", {"train": rows_of("train", 300), "test": rows_of("test", 4)})
    train = read(Dataset(str(path), "train[:270]"), tmp_path / "cache", Columns(slices=["kind"]))
    assert [row.example.id for row in train] == [f"train-{i}" for i in range(270)]
    assert train[259].where == f"{path} train[:270], row 260"
    assert (train[3].label, train[3].group, train[3].slices) == ("no", "train-1", ("kind=odd",))
    assert len(read(Dataset(str(path), "train+test"), tmp_path / "cache")) == 304


def test_a_folder_of_parquet_keeps_classes_by_their_names_and_nested_columns(tmp_path: Path) -> None:
    from pyarrow.parquet import write_table

    features = datasets.Features(
        {
            "question": {"text": datasets.Value("string")},
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "choices": datasets.List(datasets.Value("string")),
            "picture": datasets.Image(),
        }
    )
    rows = {
        "question": [{"text": "a"}, {"text": "b"}, {"text": "c"}],
        "label": [1, 0, -1],
        "choices": [["x", "y"], [], ["z"]],
        "picture": [{"bytes": b"\xff\xd8", "path": None}] * 3,
    }
    (tmp_path / "mine").mkdir()
    table = pyarrow.table(rows, schema=features.arrow_schema)  # what writes a picture needs more packages
    write_table(table, tmp_path / "mine" / "train.parquet")
    columns = Columns(prompt="question.text", answer="label", fields=["choices"])
    source = Dataset(str(tmp_path / "mine"), "train")
    found = list(read(source, tmp_path / "cache", columns))
    assert [row.example.text for row in found] == ["a", "b", "c"]
    assert [row.label for row in found] == ["yes", "no", None]
    assert found[0].example["choices"] == "A) x\nB) y"
    with pytest.raises(UserError, match=r"mine train, row 1: the column 'picture' holds bytes"):
        read(source, tmp_path / "cache", Columns(prompt="picture"))


def test_a_dataset_is_converted_once_and_again_when_it_changes_and_its_version_is_known(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine", {"train": rows_of("a", 4)})
    source, cache = Dataset(str(path), "train"), tmp_path / "cache"
    first, again = as_lines(source, Columns(), cache), as_lines(source, Columns(), cache)
    assert first == again
    assert first.version.startswith(f"{path} train, fingerprint ")
    folder(path, {"train": rows_of("b", 5)})
    changed = as_lines(source, Columns(), cache)
    assert changed.version != first.version
    assert read(source, cache)[4].example.id == "b-4"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"split": "trian"}, ["Unknown split", "trian", "train"]),
        ({"split": "train", "name": "main"}, ["'main' not found", "default"]),
        ({"split": "train[:x]"}, ["train[:x]"]),
        ({"path": "openai/gsm8k", "name": "main", "split": "train"}, ["openai/gsm8k main train"]),
        ({"path": "./none", "split": "train"}, ["./none train"]),
        ({"path": "empty", "split": "train"}, ["empty train"]),
        ({"path": "broken", "split": "train"}, ["broken train", "JSON"]),
        ({"path": "script", "split": "train"}, ["script train"]),
    ],
)
def test_a_dataset_that_cannot_be_loaded_is_one_line(
    source: dict[str, str], words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    folder(tmp_path / "mine", {"train": rows_of("train", 4)})
    (tmp_path / "empty").mkdir()
    (folder(tmp_path / "broken", {}) / "train.jsonl").write_text('{"prompt": "a"}\n{"prompt": ]\n')
    (folder(tmp_path / "script", {}) / "script.py").write_text("raise SystemExit('run')\n")
    file = recipe(data={"train": {"path": "mine", **source}})
    done = cli("distill", file, "--out", tmp_path / "run", "--quiet")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: data: the dataset ")
    assert "cannot be loaded" in line
    assert all(word in line for word in words), line


def test_a_dataset_without_the_prompts_column_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine", {"train": [{"question": "a", "answer": "yes"}]})
    with pytest.raises(UserError, match=r"mine train: no column 'prompt'; there are: question, answer"):
        read(Dataset(str(path), "train"), tmp_path / "cache")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"path": "mine"}, ["'data.train.split' is missing"]),
        ({"path": "mine", "spilt": "train"}, ["unknown key 'data.train.spilt' (did you mean 'split'?)"]),
        ({"path": "mine", "split": "train", "trust_remote_code": True}, ["unknown key 'data.train.trust_remote_code'"]),
        ({"path": "mine", "split": 1}, ["data.train.split", "string"]),
        (7, ["data.train: a file, or a dataset as {path: ..., split: ...}, not 7"]),
        (["a.jsonl"], ["data.train: a file, or a dataset"]),
    ],
)
def test_a_part_that_is_neither_file_nor_dataset_is_refused(part: object, words: list[str], recipe: Recipes) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe(data={"train": part}))
    assert all(word in str(caught.value) for word in words), caught.value
    assert ";" not in str(caught.value).replace("missing; unknown key", "")


def test_a_folder_is_found_beside_the_recipe_and_a_hub_id_stays_one(recipe: Recipes, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    hub = {"path": "owner/name", "name": "main", "split": "test", "revision": "abc"}
    data = load_recipe(recipe(data={"train": {"path": "mine", "split": "train"}, "test": hub})).data
    assert data is not None
    assert data.train.model_dump() == {  # pyright: ignore
        "path": str((tmp_path / "mine").resolve()),
        "name": None,
        "split": "train",
        "revision": None,
    }
    assert data.test.model_dump() == hub  # pyright: ignore


def test_a_run_on_a_dataset_notes_its_version_and_can_be_resumed(
    recipe: Recipes, secondnature: Cli, cli: Cli, tmp_path: Path
) -> None:
    folder(tmp_path / "mine", {"train": rows_of("train", 8), "test": rows_of("test", 4)})
    parts = {part: {"path": "mine", "split": part} for part in ("train", "test")}
    file = recipe(data={**parts, "dev": {"path": "mine", "split": "test"}}, sampling={"n": 2, "max_tokens": 16})
    run = tmp_path / "run"
    for start, command in (
        (secondnature, ("sample", run, "--recipe", file)),  # a process has no dataset loaded
        (cli, ("sample", run)),
        (cli, ("report", run)),
    ):
        done = start(*command, "--quiet")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    source = json.loads((run / "report.json").read_text())["source"]
    assert source.count("fingerprint ") == 2
    assert "mine train, fingerprint " in source
