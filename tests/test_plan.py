"""What a run would cost: counted with a stand-in for the model, and no call made."""

import json
from pathlib import Path

from secondnature.plan import Cost, counted_cost, plan
from secondnature.recipe import Recipe
from secondnature.recipe_file import parse_recipe
from secondnature.resolve import prepare


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


def planned(recipe: Recipe, cost: Cost | None = None) -> dict[str, str]:
    resolved = prepare(recipe)
    return dict(plan(recipe, resolved, cost or counted_cost(recipe, resolved)))


def test_calls_are_counted_without_the_model(tmp_path: Path) -> None:
    lines = planned(recipe(tmp_path, data={"train": str(tmp_path / "train.jsonl")}))
    prompts = int(lines["prompts"].split()[0])
    assert 20 < prompts < 40, "a part was carved off for testing"
    assert lines["samples"].startswith(f"about {prompts * 3:,}, at most {prompts * 4:,}")
    assert "(2.0 a sample)" in lines["calls"]
    generated = int(lines["tokens"].split()[1].replace(",", ""))
    assert generated == prompts * 3 * 100  # two calls of half the limit
    assert "sampling time" not in lines


def test_a_judges_calls_are_counted_without_a_second_question(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"question": f"Why {n}?", "answer_a": "So.", "answer_b": "Thus."} for n in range(30)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judging = {"name": "pairwise_judging", "data": str(pairs)}
    given = recipe(tmp_path, task=judging, data=None, answer=None, technique={"name": "bsm"})
    assert "(11.0 a sample)" in planned(given)["calls"]  # five criteria in both orders, and their list


def test_universal_self_consistency_and_changed_prompts_cost_all_their_samples(tmp_path: Path) -> None:
    data = {"train": str(tmp_path / "train.jsonl")}
    prompts = int(planned(recipe(tmp_path, data=data))["prompts"].split()[0])
    all_n = recipe(tmp_path, data=data, verify={"universal": True})
    assert planned(all_n)["samples"].startswith(f"about {prompts * 4:,}, at most {prompts * 4:,}")
    changed = planned(recipe(tmp_path, data=data, verify={"perturb": ["reword"]}))
    assert changed["samples"].startswith(f"about {prompts * 6:,}, at most {prompts * 8:,}")


def test_measured_rates_and_prices_give_time_and_money(tmp_path: Path) -> None:
    prices = {"price_per_million": {"prompt": 1.0, "completion": 2.0}}
    given = recipe(tmp_path, engine=prices, data={"train": str(tmp_path / "train.jsonl")})
    prompts = len(prepare(given).train)
    lines = planned(given, Cost(calls=1, generated=1000, read=2000, rate=100, source="a look"))
    assert lines["sampling time"].startswith(
        f"at most about {prompts * 3 * 1000 / 100 / 60:.0f} min, at the 100 tokens/s"
    )
    assert lines["money"].startswith(f"about {prompts * 3 * (2000 + 2 * 1000) / 1e6:.2f} ")
    assert lines["from"] == "a look"
