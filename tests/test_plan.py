"""What a run would cost: measured where the model is at hand, else counted with a stand-in, and nothing fetched."""

import json
import re
from pathlib import Path

import pytest

from secondnature.plan import parameters_in, print_plan
from secondnature.recipe import Recipe
from secondnature.recipe_file import parse_recipe


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("meta-llama/Llama-2-70b-chat-hf", 70e9),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5e9),
        ("bundled:smollm2-135m", 135e6),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.7e9),
        ("openai/gpt-oss", None),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7e9),
    ],
)
def test_a_models_name_gives_its_size(model: str, parameters: float | None) -> None:
    assert parameters_in(model) == parameters


def recipe(tmp_path: Path, **values: object) -> Recipe:
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Is {i} even?", "answer": "yes"}) + "\n" for i in range(40)))
    given = {
        "model": "owner/model-8B",
        "data": {"train": str(data), "test": str(data)},
        "answer": {"kind": "yes_no"},
        "technique": {"name": "rar"},
        "sampling": {"n": 4, "max_tokens": 100},
    }
    return parse_recipe({**given, **values})


def planned(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The lines of the plan, by their first word or two."""
    print_plan(recipe)
    lines = (re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    return {line[0]: line[-1] for line in lines}


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.mark.usefixtures("no_hub")
def test_a_model_that_is_not_here_is_not_fetched_but_estimated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondnature.engines.models.needs_fetching", lambda model: True)
    given = recipe(tmp_path, data={"train": str(tmp_path / "train.jsonl")})
    lines = planned(given, capsys)
    prompts = int(lines["prompts"].split()[0])
    assert 20 < prompts < 40, "a part was carved off for testing"
    assert lines["samples"].startswith(f"about {prompts * 3:,}, at most {prompts * 4:,}")
    assert "(2.0 a sample)" in lines["calls"]
    generated = int(lines["tokens"].split()[1].replace(",", ""))
    assert generated == prompts * 3 * 100  # two calls of half the limit
    assert "8B parameters" in lines["GPU-hours"]
    assert "sampling time" not in lines


def test_universal_self_consistency_and_changed_prompts_cost_all_their_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_hand = {"engine": {"kind": "fake"}, "model": "bundled:fake"}
    data = {"train": str(tmp_path / "train.jsonl")}
    prompts = int(planned(recipe(tmp_path, data=data, **at_hand), capsys)["prompts"].split()[0])
    all_n = recipe(tmp_path, data=data, verify={"universal": True}, **at_hand)
    assert planned(all_n, capsys)["samples"].startswith(f"about {prompts * 4:,}, at most {prompts * 4:,}")
    changed = recipe(tmp_path, data=data, verify={"perturb": ["reword"]}, **at_hand)
    lines = planned(changed, capsys)
    assert lines["samples"].startswith(f"about {prompts * 6:,}, at most {prompts * 8:,}")
    assert "tokens/s" in lines["sampling time"]
