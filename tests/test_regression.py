"""What the adapter did to everything else: divergence against a computation by hand, figures, files, lm_eval."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished, rows_of
from secondnature.evaluate.divergence import Divergence, divergences
from secondnature.evaluate.regression import General, describe
from secondnature.recipe_file import load_recipe, parse_recipe
from secondnature.tasks.general import GENERAL, general_prompts
from secondnature.train import IGNORED, TrainingExample, tokens
from secondnature.types import Call, Example, Message, Reply, Sample, UserError

pytestmark = pytest.mark.usefixtures("trusting")

Cli = Callable[..., Finished]
WriteRecipe = Callable[..., Path]
WriteJsonl = Callable[[str, Iterable[Mapping[str, Any]]], Path]

# --- prompts


def test_the_built_in_prompts_are_short_and_none_is_of_a_built_in_task() -> None:
    assert len(set(GENERAL)) == len(GENERAL) == 60
    assert max(map(len, GENERAL)) < 150
    words = {word.strip("?.,:'").lower() for text in GENERAL for word in text.split()}
    assert not words & {"capital", "capitals", "letter", "letters", "coin", "opinion", "country"}
    examples = general_prompts(None, Path("nowhere"))
    assert len({example.id for example in examples}) == 60
    assert examples[0].text == GENERAL[0]


def test_ones_own_prompts_come_from_a_file_beside_the_recipe(
    recipe: WriteRecipe, jsonl: WriteJsonl, tmp_path: Path
) -> None:
    jsonl("other.jsonl", [{"prompt": "Hello?"}, {"prompt": "Bye?", "answer": "no"}])
    file = recipe(evaluate={"regression": "other.jsonl"})
    found = load_recipe(file).evaluate.regression
    assert found == str(tmp_path / "other.jsonl")
    assert [example.text for example in general_prompts(str(found), tmp_path)] == ["Hello?", "Bye?"]


def test_a_file_that_is_not_there_is_said_before_anything_is_drawn(
    recipe: WriteRecipe, cli: Cli, tmp_path: Path
) -> None:
    done = cli("distill", recipe(evaluate={"regression": "none.jsonl"}), "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "there is no file" in done.stderr
    assert not (tmp_path / "run" / "calls.sqlite").exists()


def test_lm_eval_takes_a_list_or_a_mapping(recipe: WriteRecipe, tmp_path: Path) -> None:
    listed = load_recipe(recipe(evaluate={"lm_eval": ["arc_easy"]})).evaluate.lm_eval
    assert listed is not None
    assert (listed.tasks, listed.include_path, listed.limit) == (["arc_easy"], None, None)
    own = load_recipe(recipe(evaluate={"lm_eval": {"tasks": ["mine"], "include_path": "t"}})).evaluate.lm_eval
    assert own is not None
    assert own.include_path == str(tmp_path / "t")
    with pytest.raises(UserError, match="unknown key 'evaluate.lm_eval.task'"):
        parse_recipe({**load_recipe(recipe()).model_dump(), "evaluate": {"lm_eval": {"task": "x"}}})


# --- figures


def said(text: str, tokens: int) -> Sample:
    return Sample(0, text, text, None, (Call("k", (), Reply(text, "stop", 5, tokens, 0.1)),))


def test_the_figures_are_those_of_the_answers_and_the_divergence_is_a_mean_over_tokens() -> None:
    examples = [Example(name, (Message("user", name),)) for name in "abcd"]
    base = [said("one", 10), said("two", 20), said("three", 30), said("four", 40)]
    distilled = [said("one", 10), said("TWO", 2), said("THREE", 4), said("FOUR", 4)]
    general = General(examples, base, distilled)
    rows = [Divergence(10, 0.0, 0.1, 0.1), *(Divergence(10 * k, 0.1 * k, 0.2, 0.3) for k in (2, 3, 4))]
    found = describe(general, rows, "mine")
    moved = found.divergence
    assert moved is not None
    assert (found.n, found.same, found.tokens_base, found.tokens_distilled) == (4, 0.25, 25.0, 5.0)
    assert found.same_ci[0] <= 0.25 <= found.same_ci[1]
    assert moved.kl == pytest.approx((0 * 10 + 0.2 * 20 + 0.3 * 30 + 0.4 * 40) / 100)
    assert moved.kl_ci[0] <= moved.kl <= moved.kl_ci[1] <= 0.4
    assert moved.perplexity_base == pytest.approx(math.exp(0.19), abs=1e-4)
    assert moved.perplexity_distilled == pytest.approx(math.exp(0.28), abs=1e-4)
    assert [row.prompt for row in found.changed] == ["d", "c", "b"], "those that moved most first"
    assert found.changed[0].model_dump() == {"prompt": "d", "base": "four", "distilled": "FOUR", "kl": 0.4}
    without = describe(general, [], "mine")
    assert without.divergence is None
    assert [row.kl for row in without.changed] == [None] * 3


def test_no_divergence_at_all_is_no_share_of_successes() -> None:
    general = General([Example("a", (Message("user", "a"),))] * 3, [said("x", 4)] * 3, [said("x", 4)] * 3)
    moved = describe(general, [Divergence(4, 0.0, 0.1, 0.1)] * 3, "mine").divergence
    assert moved is not None
    assert moved.kl_ci == (0.0, 0.0)


# --- divergence

ANSWERS = [
    TrainingExample((Message("user", "is 3 even"),), "no"),
    TrainingExample(
        (Message("system", "be brief"), Message("user", "what is a much longer question?")), "a longer answer, too"
    ),
    TrainingExample((Message("user", "x"),), ""),
    TrainingExample((Message("user", "word " * 30),), "truncated in the mid"),
]
ENDED = [True, True, True, False]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("tiny"), stops=True)


@pytest.mark.model
def test_an_untouched_adapter_diverges_by_nothing(model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    plain: Any = AutoModelForCausalLM.from_pretrained(model)
    get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")).save_pretrained(tmp_path)
    for dtype in ("float32", "bfloat16"):
        for found in divergences(ANSWERS, ENDED, str(model), tmp_path, dtype=dtype, device="cpu"):
            assert found.kl == 0
            assert found.nll_base == found.nll_distilled > 0


@pytest.mark.model
def test_a_changed_adapter_diverges_as_a_computation_by_hand_says(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from secondnature.engines.chat import end_of_turn
    from secondnature.evaluate import divergence
    from tiny import tiny_adapter

    adapter = tiny_adapter(model, tmp_path / "adapter")
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    before: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    other: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(other, str(adapter)).merge_and_unload()
    expected: list[Divergence] = []
    for pair, ended in zip(ANSWERS, ENDED, strict=True):
        row = tokens(tokenizer, pair, end_of_turn(tokenizer))
        ids = row["input_ids"] if ended else row["input_ids"][:-1]
        start = next(k for k, label in enumerate(row["labels"]) if label != IGNORED)
        with torch.no_grad():
            p, q = (m(torch.tensor([ids])).logits[0].double().log_softmax(-1) for m in (before, merged))
        places = [(k - 1, ids[k]) for k in range(start, len(ids))]  # the token at k is foretold at k - 1
        kl = [sum(float(p[k][v].exp() * (p[k][v] - q[k][v])) for v in range(p.shape[1])) for k, _ in places]
        n = len(places)
        nll = [-sum(float(m[k][token]) for k, token in places) / n for m in (p, q)]
        expected.append(Divergence(n, sum(kl) / n, *nll))
    assert expected[2].tokens == 1, "an empty answer is its end of turn"
    assert expected[3].tokens == len("truncated in the mid"), "and one that was truncated has none"
    assert min(e.kl for e in expected) > 0.01
    for at_once in (1, 10_000):  # one by one, and padded into one batch
        monkeypatch.setattr(divergence, "AT_ONCE", at_once)
        done: list[int] = []
        found = divergences(ANSWERS, ENDED, str(model), adapter, dtype="float32", device="cpu", on_answers=done.append)
        assert done == ([4] if at_once > 1 else [1, 2, 3, 4])
        for f, e in zip(found, expected, strict=True):
            assert f.tokens == e.tokens
            assert (f.kl, f.nll_base, f.nll_distilled) == pytest.approx((e.kl, e.nll_base, e.nll_distilled), rel=1e-3)


# --- runs


def test_a_run_without_an_adapter_has_no_such_figures(recipe: WriteRecipe, cli: Cli, tmp_path: Path) -> None:
    assert cli("distill", recipe(), "--out", tmp_path / "run", "--quiet").returncode == 0
    assert json.loads((tmp_path / "run" / "report.json").read_text())["regression"] is None


LM_EVAL_TASK = """
task: parity_local
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: label
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def tiny_run(model: Path, tmp_path: Path, jsonl: WriteJsonl, recipe: WriteRecipe) -> Callable[..., Path]:
    """Writes the recipe of a run that trains the tiny model, with five general prompts of its own."""
    (tmp_path / "one.py").write_text(
        "async def noisy(example, ask):\n"
        "    reply = await ask(example.text)\n"
        "    return 'yes' if len(reply) % 4 else 'no'\n"
    )
    jsonl("other.jsonl", [{"prompt": f"say {i}"} for i in range(5)])
    jsonl("train.jsonl", rows_of("train", 16))
    jsonl("test.jsonl", rows_of("test", 4))

    def write(**evaluate: Any) -> Path:
        return recipe(
            model=str(model),
            technique={"name": "one.py:noisy"},
            sampling={"n": 3, "temperature": 1.0, "max_tokens": 8},
            verify={"min_agreement": 0.6},
            train={"num_train_epochs": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 4},
            evaluate={"latency_prompts": 0, "voted": False, "regression": "other.jsonl", **evaluate},
            engine={"kind": "transformers", "dtype": "float32", "device": "cpu"},
        )

    return write


@pytest.mark.model
def test_a_run_measures_what_else_changed_once_and_reports_it_from_its_files(
    tiny_run: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert cli("distill", tiny_run(), "--out", run, "--quiet").returncode == 0
    report = json.loads((run / "report.json").read_text())
    found = report["regression"]["general"]
    moved = found["divergence"]
    assert (found["source"], found["n"]) == ("other.jsonl", 5)
    assert moved["kl"] > 0
    assert moved["perplexity_distilled"] != moved["perplexity_base"] >= 1
    assert len(found["changed"]) == round(5 * (1 - found["same"]))
    written = (run / "regression.json").stat().st_mtime_ns
    assert cli("evaluate", run, "--quiet").returncode == 0
    assert (run / "regression.json").stat().st_mtime_ns == written, "what is up to date is not measured again"
    (run / "regression.json").unlink()
    assert cli("report", run, "--quiet").returncode == 0
    general = json.loads((run / "report.json").read_text())["regression"]["general"]
    assert general["divergence"] is None, "a report measures nothing"
    assert not (run / "regression.json").exists()
    assert cli("distill", tiny_run(regression=False), "--out", run, "--quiet").returncode == 0
    assert json.loads((run / "report.json").read_text())["regression"] is None
    assert cli("report", run, "--quiet").returncode == 0
    assert json.loads((run / "report.json").read_text())["regression"] is None, "and that it is off is kept"


@pytest.mark.model
def test_lm_eval_scores_the_base_and_the_adapter_on_ones_own_task(
    tiny_run: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = folder / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"question": f"Is {i} even?", "choices": ["yes", "no"], "label": i % 2}) + "\n"
            for i in range(10)
        )
    )
    (folder / "parity.yaml").write_text(LM_EVAL_TASK.format(rows=rows))
    file = tiny_run(lm_eval={"tasks": ["parity_local"], "include_path": "tasks"}, regression=False)
    run = tmp_path / "run"
    assert cli("distill", file, "--out", run, "--quiet").returncode == 0
    [row] = json.loads((run / "report.json").read_text())["regression"]["tasks"]
    assert (row["task"], row["metric"], row["n"]) == ("parity_local", "acc", 10)
    for name in ("base", "distilled"):
        assert row[name] * 10 == pytest.approx(round(row[name] * 10))
        assert row[f"{name}_stderr"] == pytest.approx(math.sqrt(row[name] * (1 - row[name]) / 9), abs=1e-4)
    written = (run / "lm_eval.json").stat().st_mtime_ns
    assert cli("evaluate", run, "--quiet").returncode == 0
    assert (run / "lm_eval.json").stat().st_mtime_ns == written
    rows.write_text(rows.read_text() + rows.read_text())
    assert cli("report", run, "--quiet").returncode == 0
    report = json.loads((run / "report.json").read_text())
    assert report["regression"] is None, "scores of other rows are not shown"
    unknown = cli("evaluate", run, "--set", "evaluate.lm_eval=[parity_locale]", "--quiet")
    assert unknown.returncode == 2
    assert "there is no task 'parity_locale'" in unknown.stderr
