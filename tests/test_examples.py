"""Every recipe in examples/ can be read, finds its prompts, and can be planned."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from secondnature.plan import counted_cost, plan
from secondnature.recipe_file import load_recipe
from secondnature.resolve import prepare

EXAMPLES = Path(__file__).parent.parent / "examples"
RECIPES = sorted(EXAMPLES.rglob("*.yaml"))
CURRENT = "Qwen/Qwen3-8B"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Questions with answers and choices, as the examples that need a file of the user's want them."""
    path = tmp_path / "mine.jsonl"
    rows = [
        {"prompt": f"What is {i} plus 1?", "question": f"What is {i} plus 1?", "answer": str(i + 1)}
        | {
            "choices": [str(i + 1), str(i + 2), str(i + 3)],
            "answer_a": f"{i + 1}.",
            "answer_b": f"{i + 2}.",
            "better": "A",
        }
        for i in range(0, 200, 5)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the jobs' own script writes their prompts into."""
    folder = tmp_path_factory.mktemp("jobs")
    subprocess.run([sys.executable, EXAMPLES / "jobs" / "make_data.py", folder], check=True, capture_output=True)
    return folder


def at_hand(recipe: Path, file: Path, jobs: Path) -> list[str]:
    """What stands in for data that is on a hub, the user's, or to be made."""
    if recipe.parent.name == "jobs":
        return [f"data.{part}={jobs / f'{recipe.stem}_{part}.jsonl'}" for part in ("train", "dev", "test")]
    if recipe.stem == "biased_trivia":
        return [f"task.data={file}", "task.columns={choices: choices}"]
    if recipe.stem == "judging":
        return [f"task.data={file}", "task.columns={answer: better}"]
    return [f"data.train={file}", "data.test=null"] if recipe.stem == "gsm8k" else []


def test_there_are_examples_of_all_five_experiments() -> None:
    small, paper = ({path.stem for path in (EXAMPLES / folder).glob("*.yaml")} for folder in ("small", "paper"))
    assert small == {"last_letters", "coin_flip", "biased_trivia", "judging", "gsm8k"}
    assert paper == {"last_letters", "coin_flip", "biased_trivia", "judging", "gsm8k"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(EXAMPLES)))
@pytest.mark.parametrize("model", [None, CURRENT])
def test_an_example_can_be_planned(recipe: Path, model: str | None, file: Path, jobs: Path) -> None:
    made = load_recipe(recipe, [*at_hand(recipe, file, jobs), *([f"model={model}"] if model else [])], limit=20)
    resolved = prepare(made)
    lines = dict(plan(made, resolved, counted_cost(made, resolved)))
    assert lines["prompts"].startswith("20 to train on, ")
    assert "sampling time" not in lines, "nothing is measured"
