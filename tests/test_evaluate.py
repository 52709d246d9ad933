"""Measuring: scores side by side, and what a run's report has of them."""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished, rows_of
from reports import full, report
from scripted import Scripted
from secondnature.curate import shortened
from secondnature.evaluate.score import (
    Answers,
    agreements,
    correct,
    describe_system,
    difference,
    members,
    most_frequent,
)
from secondnature.report.advice import caveats
from secondnature.types import Example, Message, Reply, Row

pytestmark = pytest.mark.usefixtures("trusting")

Cli = Callable[..., Finished]

# --- scores


def test_no_answer_agrees_with_nothing_not_even_with_no_answer() -> None:
    assert agreements(["a", "a", None, None, "a"], ["a", "b", "a", None, None]) == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_correctness_needs_a_label_on_every_row() -> None:
    assert correct(["a", None], ["a", "a"]) == [1.0, 0.0]
    assert correct(["a", "b"], ["a", None]) is None
    with pytest.raises(ValueError, match="longer"):
        agreements(["a"], ["a", "b"])


def row(number: int, *slices: str) -> Row:
    return Row(Example(str(number), (Message("user", "?"),)), "a", f"g{number}", slices)


def test_the_figures_of_a_system_are_those_of_the_headline_and_each_slice_has_its_own() -> None:
    rows = [row(0, "easy"), row(1, "easy", "odd"), row(2, "hard"), row(3, "hard", "odd")]
    answers = Answers(["a", "a", "b", None], [1, 2, 3, 100], [10, 10, 10, 10], [0.1, 0.2, 0.3])
    gold, system2 = ["a"] * 4, ["a", "b", "b", None]
    easy = describe_system(answers, rows, gold, system2, "easy")
    assert (easy.n, easy.accuracy, easy.agreement_with_system2) == (2, 1.0, 0.5)
    assert (easy.tokens_per_answer, easy.unparsable, easy.latency_ms_p50) == (1.5, 0.0, 200.0)
    whole = describe_system(answers, rows, gold, system2, None)
    assert (whole.n, whole.accuracy, whole.agreement_with_system2, whole.unparsable) == (4, 0.5, 0.5, 0.25)
    assert whole.tokens_per_answer == 26.5
    assert {name: (s.n, s.accuracy) for name, s in whole.slices.items()} == {
        "easy": (2, 1.0),
        "hard": (2, 0.0),
        "odd": (2, 0.5),
    }
    unlabelled = describe_system(answers, rows, ["a", None, "a", "a"], system2, None)
    assert (unlabelled.accuracy, unlabelled.accuracy_ci) == (None, None)
    assert unlabelled.slices["hard"].accuracy == 0.0, "a slice that is labelled throughout has its accuracy"
    assert members(rows, "odd") == [1, 3]


def test_a_difference_of_scores_is_the_mean_of_the_rows_differences() -> None:
    found = difference([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0], ["a", "b", "c", "d"])
    assert found[0] == 0.5
    assert found[1][0] <= 0.5 <= found[1][1]


def test_the_most_frequent_answer_and_its_share() -> None:
    assert most_frequent(["a", "b", "a", None]) == ("a", 0.5)
    assert most_frequent([None, None]) == (None, 0.0)


# --- runs


def test_a_slow_system_is_timed_for_a_while_and_three_prompts_at_least(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    run, file = tmp_path / "run", recipe(evaluate={"latency_prompts": 8, "latency_seconds": 1e-9})
    systems = report_of(cli, file, run)["systems"]
    assert systems["system1"]["latency_prompts"] == systems["system2"]["latency_prompts"] == 3
    assert "of 3 prompts" in (run / "report.html").read_text(encoding="utf-8")
    calls = count_calls(run)
    assert cli("report", run, "--quiet").returncode == 0
    assert count_calls(run) == calls
    again = json.loads((run / "report.json").read_text())["systems"]["system1"]
    assert again["latency_ms_p50"] == systems["system1"]["latency_ms_p50"], "the same prompts count in every report"
    assert cli("evaluate", run, "--set", "evaluate.latency_seconds=60", "--quiet").returncode == 0
    assert cli("report", run, "--quiet").returncode == 0
    assert json.loads((run / "report.json").read_text())["systems"]["system1"]["latency_prompts"] == 8


def count_calls(run: Path) -> int:
    with contextlib.closing(sqlite3.connect(run / "calls.sqlite")) as db:
        return db.execute("SELECT COUNT(*) FROM calls").fetchone()[0]


def report_of(cli: Cli, file: Path, run: Path) -> dict[str, Any]:
    done = cli("distill", file, "--out", run, "--quiet", "--anyway")
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "report.json").read_text())
    assert f"{report['verdict']}: {report['reason']}" in done.stdout
    assert (run / "report.html").stat().st_size > 1000
    return report


def test_a_run_that_keeps_nothing_is_no_error_and_says_why(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    file = recipe(sampling={"n": 400}, verify={"min_agreement": 1.0})
    report = report_of(cli, file, tmp_path / "run")
    assert report["curation"]["kept"] == 0
    assert sum(report["curation"]["discarded"].values()) == report["curation"]["prompts"] == 12
    assert report["systems"]["distilled"] is None
    assert report["verdict"] in ("inconclusive", "keep-system2", "keep-system1")
    assert report["reason"].startswith("Nothing was kept: ")
    assert "of 12 prompts were discarded as 'low agreement'" in report["reason"]
    assert (tmp_path / "run" / "curated.jsonl").read_text() == ""
    assert len((tmp_path / "run" / "discarded.jsonl").read_text().splitlines()) == 12


def without_answers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "answer"} for row in rows]


def test_a_run_without_labels_has_no_accuracy_but_an_agreement_between_floor_and_ceiling(
    recipe: Callable[..., Path],
    jsonl: Callable[[str, Iterable[Mapping[str, Any]]], Path],
    cli: Cli,
    tmp_path: Path,
) -> None:
    for part, number in (("train", 12), ("test", 30)):
        jsonl(f"{part}.jsonl", without_answers(rows_of(part, number)))
    report = report_of(cli, recipe(), tmp_path / "run")
    system1, system2 = (report["systems"][name] for name in ("system1", "system2"))
    for system in (system1, system2):
        assert (system["accuracy"], system["accuracy_ci"]) == (None, None)
        assert [s["accuracy"] for s in system["slices"].values()] == [None, None]
    assert report["agreement"]["floor"] == system1["agreement_with_system2"] < 1
    assert 0 < report["agreement"]["ceiling"] == system2["agreement_with_system2"] < 1, "with its second draw"
    assert all(0 < s["agreement_with_system2"] <= 1 for s in system2["slices"].values())
    assert (report["verdict"], report["differences"]) == ("inconclusive", [])
    assert "without labels" in report["reason"]
    assert report["curation"]["label_precision"] is None


def test_early_stopping_saves_nothing_where_it_is_off_whatever_is_changed(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    file = recipe(
        prompts=20,
        technique={"name": "cot", "extract": "never"},
        sampling={"full_n": True},
        verify={"perturb": ["reword"]},
    )
    curation = report_of(cli, file, tmp_path / "run")["curation"]
    assert curation["samples"] == curation["samples_fixed_n"] < 2 * 8 * 20, "what was not kept is not asked again"
    assert curation["tokens_saved_by_early_stopping"] == 0


def test_the_report_counts_what_the_store_holds(recipe: Callable[..., Path], cli: Cli, tmp_path: Path) -> None:
    report = report_of(cli, recipe(prompts=40, technique={"name": "cot", "extract": "never"}), tmp_path / "run")
    curation = report["curation"]
    kept = [json.loads(line) for line in (tmp_path / "run" / "curated.jsonl").read_text().splitlines()]
    discarded = [json.loads(line) for line in (tmp_path / "run" / "discarded.jsonl").read_text().splitlines()]
    assert curation["kept"] == len(kept) == 40 - sum(curation["discarded"].values())
    assert curation["samples"] == sum(line["n"] for line in kept + discarded) < curation["samples_fixed_n"] == 320
    assert curation["calls"] == curation["samples"], "a technique of one call, and no prompt twice"
    for line in kept + discarded:
        assert sum(line["votes"].values()) + line.get("unparsable", 0) + line.get("truncated", 0) == line["n"]
    assert min(line["agreement"] for line in kept) >= 0.75 > min(line["agreement"] for line in discarded)
    assert all(line["reason"] for line in discarded)
    for line in discarded:
        assert line["prompt"][-1]["content"].startswith("Is train number ")
        assert len(line["replies"]) == line["n"]


def test_what_is_discarded_shows_what_was_said_of_unreadable_replies_too(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "async def f(example, ask):\n    await ask('Think ' + 'hard ' * 400 + example.text)\n    return ''\n"
    )
    report_of(cli, recipe(technique={"name": "mine.py:f"}), tmp_path / "run")
    discarded = [json.loads(line) for line in (tmp_path / "run" / "discarded.jsonl").read_text().splitlines()]
    assert len(discarded) == 12
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "calls.sqlite")) as db:
        said = {text for (text,) in db.execute("SELECT text FROM calls")}
    assert {reply for line in discarded for reply in line["replies"]} <= said, (
        "the technique returned nothing, the model did"
    )


def test_a_long_reply_keeps_its_beginning_and_its_end() -> None:
    text = "First I think. " + "and then " * 200 + "The answer is: no"
    short = shortened(text)
    assert len(short) < 510
    assert short.startswith("First I think.")
    assert short.endswith("The answer is: no")
    assert shortened(" yes\n") == "yes"


def test_latency_is_measured_cold_before_any_test_prompt_is_read_and_serves_as_nothing_else(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(lambda request: Reply("The answer is: yes", "stop", 3, 2, 0.3 if request.cold else 0.1))
    monkeypatch.setattr("secondnature.context.open_engine", lambda *_: engine)
    file, run = recipe(evaluate={"latency_prompts": 3, "regression": False}), tmp_path / "run"
    assert cli("evaluate", run, "--recipe", file, "--quiet").returncode == 0
    cold = [request.cold for request in engine.asked]
    assert cold == [True] * 6 + [False] * (len(cold) - 6), "three prompts of two systems, then all of them"
    timed = {request.messages for request in engine.asked[:6]}
    assert timed <= {request.messages for request in engine.asked[6:]}, "what was timed is drawn again to be scored"
    before = len(engine.asked)
    assert cli("evaluate", run, "--quiet").returncode == 0
    assert len(engine.asked) == before
    assert cli("report", run, "--quiet").returncode == 0
    systems = json.loads((run / "report.json").read_text())["systems"]
    assert [systems[name]["latency_ms_p50"] for name in ("system1", "system2")] == [300.0, 300.0]


def test_a_half_finished_run_has_a_report(recipe: Callable[..., Path], cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", recipe(), "--quiet").returncode == 0
    assert cli("report", run, "--quiet").returncode == 0
    report = json.loads((run / "report.json").read_text())
    assert (report["verdict"], report["reason"]) == ("inconclusive", "The votes are not counted yet.")
    for stage in ("verify", "report"):
        assert cli(stage, run, "--quiet").returncode == 0
    report = json.loads((run / "report.json").read_text())
    assert (report["verdict"], report["reason"]) == ("inconclusive", "The systems are not evaluated yet.")
    assert report["curation"]["prompts"] == 12
    assert report["systems"]["system1"] is None
    assert cli("distill", tmp_path / "recipe.yaml", "--out", run, "--set", "sampling.n=9", "--quiet").returncode == 0
    assert cli("report", run, "--quiet").returncode == 0
    assert json.loads((run / "report.json").read_text())["systems"]["system1"]["n"] == 8


def test_contamination_and_what_changed_elsewhere_are_caveats() -> None:
    given = full()
    given["regression"]["general"] |= {"tokens_base": 40.0, "tokens_distilled": 41.0, "divergence": None}
    assert [caveat.kind for caveat in caveats(report(**{**given, "contamination": None}))] == []
    [said] = caveats(report(**given))
    assert said.text == "2 of 134 test prompts are also in training: without them the distilled model has 0.410."
    divergence = {"kl": 0.3, "kl_ci": [0.2, 0.4], "perplexity_base": 1.2, "perplexity_distilled": 1.3}
    for moved in ({"divergence": divergence}, {"tokens_distilled": 6.0}):
        general = {**given["regression"]["general"], **moved}
        [said] = caveats(report(regression={"general": general, "tasks": []}, contamination=None))
        assert said.kind == "regression"
        assert "use it for this task alone" in said.text
