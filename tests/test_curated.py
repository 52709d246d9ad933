"""The curated files: written in one pass over the votes, read by all later stages, refused where they do not belong."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from conftest import Finished
from secondnature import curate, curated
from secondnature.adapters import adapter_digest
from secondnature.context import open_context
from secondnature.progress import Display
from secondnature.recipe_file import load_recipe
from secondnature.run import Run, open_run
from secondnature.stages import distill
from secondnature.types import UserError
from test_adapters import left_by_training

Recipes = Callable[..., Path]
Cli = Callable[..., Finished]


@pytest.fixture
def run(recipe: Recipes, cli: Cli, tmp_path: Path) -> Path:
    assert cli("distill", recipe(prompts=40), "--out", tmp_path / "run", "--quiet").returncode == 0
    return tmp_path / "run"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refused(done: Finished) -> str:
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    return line


def test_a_run_goes_through_the_votes_twice(recipe: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voted: Counter[str] = Counter()
    verify = curate.verify

    async def counted(model: Any, system: Any, example: Any, verifier: Any) -> Any:
        voted[example.id] += 1
        return await verify(model, system, example, verifier)

    monkeypatch.setattr(curate, "verify", counted)
    monkeypatch.setattr("secondnature.report.show.SHOWN", 10)
    for name in ("engines.fake.FakeEngine.load_adapter", "stages.measure_regression"):
        monkeypatch.setattr(f"secondnature.{name}", Mock())
    file, folder, prompts = recipe(prompts=200), tmp_path / "run", 200
    distill(file, folder, quiet=True)
    with open_run(folder, load_recipe(file)) as opened, open_context(opened, Display(quiet=True)) as context:
        examples = curated.current(context).examples
    left_by_training(folder / "adapter", adapter_digest(opened, examples, None, 0))
    voted.clear()
    distill(file, folder, quiet=True)  # with an adapter that evaluation and the report must recognise
    assert json.loads((folder / "report.json").read_text())["systems"]["distilled"] is not None
    shown = 10 + 20  # in the report: evenly spread ones, and those nearest to the threshold
    assert 2 * prompts <= voted.total() <= 2 * prompts + shown
    assert set(Counter(voted.values())) <= {2, 3}


def test_the_totals_are_those_of_the_rows(run: Path) -> None:
    kept, discarded = lines(run / "curated.jsonl"), lines(run / "discarded.jsonl")
    curation = json.loads((run / "curation.json").read_text())
    assert sorted(row["row"] for row in [*kept, *discarded]) == list(range(40))
    assert curation["kept"] == len(kept)
    assert curation["discarded"] == Counter(row["reason"] for row in discarded)
    assert curation["samples"] == sum(row["n"] for row in [*kept, *discarded])
    told = json.loads((run / "report.json").read_text())["curation"]
    assert told["kept"] == len(kept)
    label = {row["id"]: row["answer"] for row in lines(run.parent / "train.jsonl")}
    right = sum(row["answer"] == label[row["id"]] for row in kept)
    assert told["label_precision"] == round(right / len(kept), 4)


@pytest.mark.parametrize("change", ["verify.min_agreement=0.9", "sampling.n=3", "system1={instruction: Answer now.}"])
def test_files_of_another_recipe_are_refused_until_they_are_written_anew(run: Path, cli: Cli, change: str) -> None:
    line = refused(cli("train", run, "--quiet", "--set", change))
    assert "was made with another recipe" in line
    assert f"`secondnature verify {run}` writes it anew" in line
    assert cli("sample", run, "--quiet", "--set", change).returncode == 0
    assert cli("verify", run, "--quiet").returncode == 0
    assert cli("train", run, "--quiet").returncode == 0


def test_files_of_other_prompts_are_refused(run: Path, cli: Cli) -> None:
    rows = lines(run.parent / "train.jsonl")
    rows[3]["prompt"] = "Is 3 even?"
    (run.parent / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "was made with another recipe, model or other prompts" in refused(cli("train", run, "--quiet"))
    done = cli("report", run, "--quiet")
    assert done.returncode == 0, "a run may be half finished"
    assert json.loads((run / "report.json").read_text())["curation"] is None


def test_an_edited_file_is_trained_on_only_where_that_is_asked_for(run: Path, cli: Cli) -> None:
    whole = (run / "curated.jsonl").read_text()
    kept = whole.splitlines(keepends=True)
    (run / "curated.jsonl").write_text("".join(kept[2:]))
    for command in (("train", run), ("export", run, "--dataset-only", "--out", run.parent / "out")):
        line = refused(cli(*command))
        assert "was changed since it was written" in line
        assert f"`secondnature train {run} --edited`" in line
    assert cli("train", run, "--quiet", "--edited").returncode == 0
    assert json.loads((run / "curation.json").read_text())["kept"] == len(kept) - 2
    assert cli("distill", run / "recipe.yaml", "--out", run, "--quiet").returncode == 0
    assert (run / "curated.jsonl").read_text() == "".join(kept[2:]), "distill leaves it"
    told = json.loads((run / "report.json").read_text())
    assert told["curation"]["kept"] == len(kept) - 2
    assert any("edited by hand" in caveat["text"] for caveat in told["caveats"])
    assert cli("verify", run, "--quiet").returncode == 0
    assert (run / "curated.jsonl").read_text() == whole
    assert (run / "curated.edited.jsonl").read_text() == "".join(kept[2:])
    assert cli("train", run, "--quiet").returncode == 0


@pytest.mark.parametrize("content", ["[]", "{}", '{"settings": 1}', "{", '{"kept": "many"}'])
def test_a_damaged_curation_is_one_line(run: Path, cli: Cli, content: str) -> None:
    (run / "curation.json").write_text(content)
    assert f"`secondnature verify {run}`" in refused(cli("train", run, "--quiet"))
    assert cli("distill", run / "recipe.yaml", "--out", run, "--quiet").returncode in (0, 2)
    (run / "curation.json").unlink()
    assert cli("verify", run, "--quiet").returncode == 0


def test_a_damaged_row_is_one_line(run: Path, cli: Cli) -> None:
    row = lines(run / "curated.jsonl")[0]
    for broken in ("{", json.dumps({**row, "votes": 3}), json.dumps({**row, "prompt": []})):
        (run / "curated.jsonl").write_text(broken + "\n")
        assert re.search(r"curated.jsonl, line 1: .*verify", refused(cli("train", run, "--quiet", "--edited")))


@pytest.mark.parametrize("name", ["prompt", "completion", "answer", "id", "row", "n", "agreement", "votes"])
def test_a_row_of_another_form_is_refused(name: str, run: Path) -> None:
    opened, row = Run(run, load_recipe(run / "recipe.yaml")), lines(run / "curated.jsonl")[0]
    others = (None, 7, -1e300, "x", [], [1], {"a": -1}, [{"role": "user"}], [{"role": "user", "content": 1}], 2**70)
    fit = {"answer": ["x"], "id": ["x"], "n": [7], "row": [7]}
    for value in (value for value in others if value not in fit.get(name, [])):
        (run / "curated.jsonl").write_text(json.dumps({**row, name: value}) + "\n")
        with pytest.raises(UserError, match=f"curated.jsonl, line 1: '{name}' is not what was written there"):
            list(curated.kept_rows(opened))
