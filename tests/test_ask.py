"""Asking a run: the command and `sn.load`. It needs the run's folder alone, and changes nothing in it."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import secondnature as sn
from conftest import Finished
from secondnature.cli import app
from secondnature.types import Message, UserError
from secondnature.use import described

Cli = Callable[..., Finished]
Recipes = Callable[..., Path]
PROMPT = "Is test number 1 even?"


@pytest.fixture
def run(recipe: Recipes, tmp_path: Path) -> Path:
    """A whole run of the fake engine, which trains nothing; its data is gone, and its folder was moved."""
    sn.distill(recipe(), tmp_path / "made", quiet=True)
    shutil.move(tmp_path / "made", tmp_path / "run")
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    return tmp_path / "run"


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.iterdir()) if p.is_file()}


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_answer_alone_goes_to_standard_output_and_the_run_stays_as_it_was(run: Path, cli: Cli) -> None:
    before = files_of(run)
    done = cli("ask", run, PROMPT, "--system", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in ("The answer is: yes\n", "The answer is: no\n")
    assert cli("ask", run, PROMPT, "--system", "2").stdout in ("yes\n", "no\n"), "the technique's final output"
    assert files_of(run) == before


def test_a_run_with_nothing_distilled_says_why_and_what_to_do(run: Path, cli: Cli) -> None:
    done = cli("ask", run, PROMPT)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    reason = json.loads((run / "report.json").read_text())["reason"].rstrip(".")
    assert f"nothing is distilled here ({reason}): ask System 2 with --system 2" in done.stderr
    shown = cli("ask", run, PROMPT, "--compare")
    assert shown.returncode == 0
    assert "System 1" in shown.stdout
    assert "System 2" in shown.stdout
    assert "nothing is distilled here" in shown.stdout


def test_compare_counts_the_tokens_of_all_calls(recipe: Recipes, tmp_path: Path, cli: Cli) -> None:
    sn.distill(recipe(technique={"name": "rar"}), tmp_path / "run", quiet=True)
    one = sn.load(tmp_path / "run").ask(PROMPT, system=1)
    two = sn.load(tmp_path / "run").ask(PROMPT, system=2)
    shown = cli("ask", tmp_path / "run", PROMPT, "--compare").stdout
    rows = {
        name: next(line.split() for line in shown.splitlines() if name in line) for name in ("System 1", "System 2")
    }
    assert rows["System 1"][-3:-1] == [str(one.tokens), str(one.prompt_tokens)]
    assert rows["System 2"][-3:-1] == [str(two.tokens), str(two.prompt_tokens)]
    assert (one.tokens, two.tokens) == (4, 8), "one reply of four words, and two"
    assert two.milliseconds >= 4, "two calls of 2 ms, one after the other"


def test_a_file_comes_out_as_json_lines_in_order_and_goes_on_where_it_stopped(
    run: Path, tmp_path: Path, cli: Cli, jsonl: Callable[..., Path]
) -> None:
    prompts = [
        {"id": f"p{i}", "prompt": f"Is {i} even?", "answer": "maybe, which is no label here"} for i in range(300)
    ]
    file, out = jsonl("prompts.jsonl", prompts), tmp_path / "new" / "answers.jsonl"
    done = cli("ask", run, "--file", file, "--system", "2")
    rows = lines_of(done.stdout)
    assert [(row["id"], row["prompt"]) for row in rows] == [(p["id"], p["prompt"]) for p in prompts]
    assert set(rows[0]) == {"id", "prompt", "text", "answer", "failure", "tokens", "milliseconds", "system"}
    assert all(row["answer"] == row["text"] and row["failure"] is None and row["system"] == "system2" for row in rows)
    assert "ask: 300/300 (300 calls" in done.stderr

    assert cli("ask", run, "--file", file, "--out", out, "--system", "2").stdout == ""
    whole = lines_of(out.read_text())
    cut = "".join(out.read_text().splitlines(keepends=True)[:200]) + '{"id": "p200", "pro'
    out.write_text(cut)
    again = cli("ask", run, "--file", file, "--out", out, "--system", "2")
    assert "200 of 300 answers are there already" in again.stderr
    assert "(100 calls" in again.stderr
    left = lines_of(out.read_text())
    assert [row["text"] for row in left] == [row["text"] for row in whole]
    for other in (["--system", "1"], []):
        refused = cli("ask", run, "--file", file, "--out", out, *other)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert "give --out another file" in refused.stderr
    assert lines_of(out.read_text()) == left
    jsonl("prompts.jsonl", prompts[:100])
    assert "give --out another file" in cli("ask", run, "--file", file, "--out", out, "--system", "2").stderr


def test_prompts_come_from_text_a_line_each_and_from_standard_input(run: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\ufeffIs 1 even?\n\nIs {2} even? \u2028\n", encoding="utf-8")
    from_file = CliRunner().invoke(app, ["ask", str(run), "--file", str(tmp_path / "p.txt"), "--system", "1"])
    assert [row["prompt"] for row in lines_of(from_file.stdout)] == ["Is 1 even?", "Is {2} even? "]
    rows = '{"prompt": "Is 3 even?", "id": 7}\n{"prompt": "Is 4 even?"}\n'
    for text, prompts in (("Is 3 even?\nIs 4 even?\n", 2), (rows, 2)):
        done = CliRunner().invoke(app, ["ask", str(run), "-", "--system", "1"], input=text)
        assert done.exit_code == 0, done.stderr
        assert [row["prompt"] for row in lines_of(done.stdout)] == ["Is 3 even?", "Is 4 even?"][:prompts]
    assert json.loads(done.stdout.splitlines()[0])["id"] == "7"
    empty = CliRunner().invoke(app, ["ask", str(run), "-", "--system", "1"], input="")
    assert (empty.exit_code, empty.stderr) == (2, "error: standard input: no rows\n")


def test_rows_have_the_recipes_columns_and_a_plain_prompt_is_whole(
    recipe: Recipes, tmp_path: Path, cli: Cli, jsonl: Callable[..., Path]
) -> None:
    data = {
        "train": "train.jsonl",
        "test": "test.jsonl",
        "template": "Even: {number.it}?",
        "system": "Be brief.",
        "id": "key",
    }
    rows = [{"number": {"it": i}, "key": f"k{i}", "answer": "yes"} for i in range(8)]
    for part in ("train", "test"):
        jsonl(f"{part}.jsonl", [{**row, "number": {"it": f"{part} {row['number']['it']}"}} for row in rows])
    sn.distill(recipe(data=data), tmp_path / "run", quiet=True)
    done = cli("ask", tmp_path / "run", "--file", jsonl("new.jsonl", rows[:2]), "--system", "1")
    system = {"role": "system", "content": "Be brief."}
    [first, second] = lines_of(done.stdout)
    assert first["prompt"] == [system, {"role": "user", "content": "Even: 0?"}]
    assert (first["id"], second["id"]) == ("k0", "k1")
    one = sn.load(tmp_path / "run").ask("Even: 0?", system=1)
    assert (one.text, one.tokens, one.prompt_tokens) == (first["text"], first["tokens"], 4)
    with sn.load(tmp_path / "run") as asked:
        assert asked.ask(
            [{"role": "system", "content": "Be very long."}, {"role": "user", "content": "Even?"}], system=1
        )
    assert "no column 'number.it'" in cli("ask", tmp_path / "run", "--file", jsonl("n.jsonl", [{"x": 1}])).stderr


def test_from_python_a_run_is_looked_at_and_asked(run: Path) -> None:
    with sn.load(run) as loaded:
        one = loaded.ask(PROMPT, system=1)
        assert one.answer in ("yes", "no")
        assert one.text == f"The answer is: {one.answer}"
        turns: list[Any] = [[{"role": "user", "content": PROMPT}], [Message("user", PROMPT)]]
        assert [a.text for a in loaded.ask([PROMPT, *turns], system=1)] == [one.text] * 3
        assert loaded.ask(turns[0], system=1).text == one.text, "a list of messages is one prompt"
        assert loaded.ask([], system=1) == []

        async def in_a_notebook() -> str:
            return loaded.ask(PROMPT, system=1).text

        assert asyncio.run(in_a_notebook()) == one.text
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(loaded.ask(PROMPT, system=2).text)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1
        loaded.close()
        assert loaded.ask(PROMPT, system=1).text == one.text, "it opens again"
    kept = (run / "curated.jsonl").read_text().splitlines()
    assert len(loaded.curated) == len(kept)
    assert [row["id"] for row in loaded.curated] == [json.loads(line)["id"] for line in kept]
    assert loaded.report == json.loads((run / "report.json").read_text())
    assert loaded.verdict == loaded.report["verdict"]
    assert repr(loaded).startswith(f"<Run {run}: {loaded.verdict}, System 1 ")
    assert loaded.recipe.technique.name == "cot"


def test_what_is_no_prompt_no_system_or_no_run_is_told(run: Path, tmp_path: Path, cli: Cli) -> None:
    loaded = sn.load(run)
    wrong: list[Any] = ["  ", [{"role": "user"}], [{"role": "assistant", "content": "yes"}], [["a"]]]
    for prompt in wrong:
        with pytest.raises(UserError, match="^the prompt"):
            loaded.ask(prompt, system=1)
    with pytest.raises(UserError, match="not 3"):
        loaded.ask(PROMPT, system=3)  # type: ignore[call-overload]  # pyright: ignore
    with pytest.raises(UserError, match="is not a run"):
        sn.load(tmp_path / "nowhere")
    for words in (
        [],
        [PROMPT, "--file", "x"],
        [PROMPT, "--out", "x"],
        [PROMPT, "--compare", "--system", "1"],
        ["-", "--compare"],
    ):
        done = cli("ask", run, *words)
        assert (done.returncode, done.stderr[:11]) == (2, "error: ask:"), words
    assert "there is no file" in cli("ask", run, "--file", tmp_path / "x.txt", "--system", "1").stderr


def test_a_run_without_a_report_or_labels_has_a_description() -> None:
    assert described({}) == "no report yet"
    systems: dict[str, Any] = {
        "system1": {"accuracy": None, "agreement_with_system2": 0.25},
        "system2": {"accuracy": None, "agreement_with_system2": 1.0},
        "distilled": {"accuracy": None, "agreement_with_system2": 0.6},
    }
    curation = {"kept": 3, "prompts": 9}
    assert described({"verdict": "ship", "systems": systems, "curation": curation}) == (
        "ship, distilled 0.60 vs System 1 0.25, System 2 1.00 (agreement with System 2); 3 of 9 prompts kept"
    )
    assert described({"verdict": "inconclusive", "systems": {"system1": None}}) == "inconclusive, nothing measured"


def test_how_answers_to_a_task_are_read_is_known_without_its_files(tmp_path: Path) -> None:
    from secondnature.recipe import Recipe
    from secondnature.resolve import kind_of

    discarded = {"train": str(tmp_path / "gone.jsonl")}
    for task, kind in (
        ({"name": "multiple_choice", "data": discarded, "columns": {"choices": "c"}}, "choice"),
        ({"name": "pairwise_judging", "data": discarded}, "verdict"),
        ({"name": "biased_qa", "data": discarded, "as_choices": True}, "choice"),
        ({"name": "biased_qa", "data": discarded}, "short_text"),
        ({"name": "biased_capitals"}, "capital"),
    ):
        recipe = Recipe.model_validate({"model": "fake", "task": task, "technique": {"name": "cot"}})
        assert kind_of(recipe).name == kind, task
