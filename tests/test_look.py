"""A first look: what it finds, what it advises, what it costs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import secondnature as sn
from conftest import Finished
from scripted import Scripted
from secondnature.context import open_context
from secondnature.export.card import student_prompt, system_of
from secondnature.first_look import PROMPTS, SAMPLES, Look
from secondnature.progress import Display
from secondnature.recipe_file import load_recipe
from secondnature.run import open_run
from secondnature.stages import look_at, sample
from secondnature.types import Reply, Request, UserError

Cli = Callable[..., Finished]
Answer = Callable[[Request], str]


def is_slow(request: Request) -> bool:
    return "step by step" in request.messages[0].content


def looked(monkeypatch: pytest.MonkeyPatch, recipe: Path, out: Path, answer: Answer, *sets: str) -> Look:
    """What a look finds where a script answers."""
    engine = Scripted(answer)
    monkeypatch.setattr("secondnature.context.open_engine", lambda *args: engine)
    return sn.look(recipe, out, sets=sets, quiet=True)


def right(request: Request) -> str:
    """Even numbers, rightly said by System 2, and by System 1 always "yes"."""
    number = int(request.messages[-1].content.split("number ")[1].split()[0])
    said = "no" if number % 2 else "yes"
    return f"I think.\nThe answer is: {said}" if is_slow(request) else "yes"


def test_a_look_measures_both_systems_and_estimates_what_is_kept(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(monkeypatch, recipe(prompts=64), tmp_path / "run", right)
    assert (found.prompts, found.of) == (PROMPTS, 64)
    assert found.system2.samples == PROMPTS * SAMPLES
    assert (found.system2.accuracy, found.system2.repeats, found.system2.unparsable) == (1.0, 1.0, 0.0)
    assert found.system1.accuracy == pytest.approx(0.5, abs=0.2)
    assert 0.5 < found.kept < 1.0, "two samples of eight that agree do not decide"
    assert found.groups == 4
    assert [line for line in found.advice if "4 independent groups" in line and "at least 59" in line]
    assert not [line for line in found.advice if "cannot be read" in line]
    assert json.loads((tmp_path / "run" / "look.json").read_text())["system2"]["accuracy"] == 1.0
    assert "System 2: 100% readable, accuracy 1.00" in str(found)


def test_the_run_uses_the_looks_calls_again(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(right)
    monkeypatch.setattr("secondnature.context.open_engine", lambda *args: engine)
    made = load_recipe(recipe(prompts=40))
    with open_run(tmp_path / "run", made) as run, open_context(run, Display(quiet=True)) as context:
        look_at(context)
        before = len([r for r in engine.asked if is_slow(r)])
        assert before == PROMPTS * SAMPLES
        sample(context)
        drawn = [r for r in engine.asked if is_slow(r)]
        assert len(set(map(_seed, drawn))) == len(drawn), "no call was made twice"
        assert len(drawn) == 40 * 6, "six of eight equal votes decide, the looked at included"


def _seed(request: Request) -> tuple[Any, ...]:
    return request.seed, request.messages


UNPARSABLE = "Therefore the number cannot be divided so."


@pytest.mark.parametrize(
    ("technique", "advice"),
    [
        ({"name": "cot"}, "worked examples"),
        ({"name": "cot", "extract": "never"}, "leave out technique.extract: never"),
        ({"name": "cot", "think": "{prompt} Think step by step."}, "put {form} into technique.think"),
        (
            {"name": "cot", "demonstrations": [{"prompt": "step by step?", "reasoning": "yes"}]},
            "let the worked examples of technique.demonstrations end with yes or no",
        ),
    ],
)
def test_unreadable_answers_are_shown_and_the_advice_names_the_key(
    recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    technique: dict[str, Any],
    advice: str,
) -> None:
    found = looked(
        monkeypatch, recipe(technique=technique), tmp_path / "run", lambda r: UNPARSABLE if is_slow(r) else "yes"
    )
    assert found.system2.unparsable == 1.0
    assert found.system2.replies == [(UNPARSABLE, found.system2.samples)]
    assert advice in found.advice[0]
    assert "100% of System 2's answers cannot be read" in found.advice[0]


def test_cut_off_answers_are_told_from_unreadable_ones(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(lambda request: "Let me see", finish="length")
    monkeypatch.setattr("secondnature.context.open_engine", lambda *args: engine)
    found = sn.look(recipe(), tmp_path / "run", quiet=True)
    assert (found.system2.truncated, found.system2.unparsable, found.system2.replies) == (1.0, 0.0, [])
    assert "set sampling.max_tokens to more than 512" in found.advice[0]


def test_a_model_that_reasons_by_itself_is_told_apart_from_a_fast_answer(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long(request: Request) -> Any:
        return Reply("Because of this.\nThe answer is: yes", "stop", 10, 80 if is_slow(request) else 60, 0.1)

    found = looked(monkeypatch, recipe(), tmp_path / "run", long)
    assert any(
        "System 1 spends 60 tokens, System 2 80" in line and "system1: {instruction:" in line for line in found.advice
    )
    told = recipe(system1={"instruction": "Reply with {form} and nothing else."})
    found = looked(monkeypatch, told, tmp_path / "told", long)
    assert not any("system1:" in line for line in found.advice)


def test_distill_stops_where_most_answers_cannot_be_read_and_goes_on_anyway(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(lambda r: UNPARSABLE if is_slow(r) else "yes")
    monkeypatch.setattr("secondnature.context.open_engine", lambda *args: engine)
    path, run = recipe(), tmp_path / "run"
    stopped = cli("distill", path, "--out", run)
    assert stopped.returncode == 2
    [line] = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
    assert "100% of System 2's first 24 answers cannot be read as yes_no" in line
    assert UNPARSABLE in line
    assert not (run / "curated.jsonl").exists()
    asked = len(engine.asked)
    with pytest.raises(UserError, match="cannot be read"):
        sn.distill(path, run, quiet=True)
    assert len(engine.asked) == asked, "what was drawn is stored"
    assert cli("distill", path, "--out", run, "--anyway").returncode == 0
    assert (run / "report.json").exists()


def test_the_command_prints_a_table_advice_and_the_next_command(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    path, out = recipe(prompts=40), tmp_path / "my run"
    done = cli("look", path, "--out", out)
    assert done.returncode == 0
    assert "same answer twice" in done.stdout
    assert "Advice:" in done.stdout
    assert f"Next: secondnature distill {path} --out '{out}'" in done.stdout
    again = cli("look", path, "--out", out)
    assert done.stdout.replace(" ", "") == again.stdout.replace(" ", ""), "the store answers, and the rate is kept"


def test_labels_are_not_needed(recipe: Callable[..., Path], jsonl: Any, tmp_path: Path) -> None:
    rows: Sequence[dict[str, str]] = [{"prompt": f"Is train number {i} even?"} for i in range(40)]
    jsonl("bare.jsonl", rows)
    path = recipe(data={"train": "bare.jsonl"})
    found = sn.look(path, tmp_path / "run", quiet=True)
    assert found.system2.accuracy is None
    assert any("There are no labels" in line for line in found.advice)


def test_labels_that_are_not_named_are_proposed_from_the_file(
    recipe: Callable[..., Path], jsonl: Any, cli: Cli, tmp_path: Path
) -> None:
    rows = [{"prompt": f"p {i}", "answer": ["refund", "late, or lost", "refund"][i % 3]} for i in range(9)]
    jsonl("labelled.jsonl", rows)
    done = cli("look", recipe(data={"train": "labelled.jsonl"}, answer={"kind": "label"}), "--out", tmp_path / "run")
    assert done.returncode == 2
    assert 'found 2 in the column \'answer\': answer: {kind: label, labels: ["refund", "late, or lost"]}' in done.stderr
    jsonl("many.jsonl", [{"prompt": f"p {i}", "answer": f"text {i}"} for i in range(60)])
    done = cli("look", recipe(data={"train": "many.jsonl"}, answer={"kind": "label"}), "--out", tmp_path / "run")
    assert "has 60 different values" in done.stderr


def test_the_student_is_trained_and_asked_with_system_1s_prompt_alone(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(lambda r: right(r) if is_slow(r) else "yes")
    monkeypatch.setattr("secondnature.context.open_engine", lambda *args: engine)
    shown = {"prompt": "Is 3 even?", "answer": "no"}
    path = recipe(system1={"instruction": "Reply with {form}.", "demonstrations": [shown]})
    sn.distill(path, tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "curated.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        assert row["prompt"][:3] == [
            {"role": "system", "content": "Reply with yes or no."},
            {"role": "user", "content": "Is 3 even?"},
            {"role": "assistant", "content": "no"},
        ]
    fast = [r for r in engine.asked if not is_slow(r) and len(r.messages) == 4]
    assert fast
    assert all(r.messages[0].content == "Reply with yes or no." for r in fast)


def test_the_report_and_the_card_say_how_a_fast_answer_is_asked_for(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secondnature.context.open_engine", lambda *args: Scripted(right))
    one = {"prompt": "Is 3 even?", "answer": "no"}
    asked = {"instruction": "Reply with {form}.", "demonstrations": [one]}
    path = recipe(system1=asked, evaluate={"regression": False})
    run = sn.distill(path, tmp_path / "run", quiet=True)
    described = run.report["systems"]["system1"]["description"]
    assert described == "the prompt, after the instruction 'Reply with {form}.' and 1 worked example"
    assert "after the instruction" in (tmp_path / "run" / "report.html").read_text()
    assert [m.as_dict() for m in student_prompt(run.recipe)] == [
        {"role": "system", "content": "Reply with yes or no."},
        {"role": "user", "content": "Is 3 even?"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "the prompt, as it is"},
    ]
    assert system_of(run.recipe) == "Reply with yes or no."


def test_a_recipe_of_one_sample_is_looked_at_with_one(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(monkeypatch, recipe(sampling={"n": 1, "temperature": 0.0}), tmp_path / "run", right)
    assert found.system2.samples == found.prompts
    assert "1 sample of each system" in str(found)
