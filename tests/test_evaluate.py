"""Measuring: intervals that resample groups, scores, and every way a verdict can come out."""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished, rows_of
from secondnature.evaluate.score import Answers, agreements, correct, describe_system, difference, members
from secondnature.evaluate.statistics import difference_interval, mean_interval
from secondnature.evaluate.verdict import Difference, with_labels, without_labels
from secondnature.types import Example, Message, Row

Cli = Callable[..., Finished]

# --- intervals


def clustered(draw: random.Random, groups: int, size: int) -> tuple[list[float], list[str]]:
    """Rows right with probability 0.5 on the whole, and nearly always alike within a group."""
    values: list[float] = []
    for _ in range(groups):
        share = draw.choice([0.05, 0.95])
        values += [float(draw.random() < share) for _ in range(size)]
    return values, [f"g{i // size}" for i in range(groups * size)]


def test_the_interval_covers_the_truth_about_as_often_as_it_says_where_rows_come_in_groups() -> None:
    draw = random.Random(1)
    runs, by_group, by_row = 150, 0, 0
    for _ in range(runs):
        values, groups = clustered(draw, 30, 5)
        low, high = mean_interval(values, groups)
        by_group += low <= 0.5 <= high
        low, high = mean_interval(values, [str(i) for i in range(len(values))])
        by_row += low <= 0.5 <= high
    assert by_group / runs > 0.88
    assert by_row / runs < 0.8, "rows taken as independent would promise too much"


def test_groups_widen_an_interval() -> None:
    values, groups = clustered(random.Random(2), 20, 6)
    alone = mean_interval(values, [str(i) for i in range(len(values))])
    together = mean_interval(values, groups)
    assert together[1] - together[0] > 1.4 * (alone[1] - alone[0])
    assert together[0] < sum(values) / len(values) < together[1]


def test_an_interval_is_the_same_every_time_and_does_not_hang_on_the_order_of_rows_in_a_group() -> None:
    values, groups = clustered(random.Random(3), 10, 4)
    swapped = [values[i ^ 1] for i in range(len(values))]
    assert mean_interval(values, groups) == mean_interval(values, groups) == mean_interval(swapped, groups)


def test_where_all_groups_are_alike_wilsons_interval_with_the_groups_as_observations_is_given() -> None:
    low, high = mean_interval([1.0] * 30, [f"g{i // 3}" for i in range(30)])
    assert (low, high) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert mean_interval([0.0] * 10, [str(i) for i in range(10)]) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert mean_interval([1.0], ["only"]) == pytest.approx((0.2065, 1.0), abs=1e-4)


def test_a_difference_is_paired_by_row() -> None:
    draw = random.Random(4)
    first = [float(draw.random() < 0.5) for _ in range(100)]
    second = [1 - value if i % 25 == 0 else value for i, value in enumerate(first)]
    groups = [str(i) for i in range(100)]
    low, high = difference_interval(first, second, groups)
    assert -0.1 < low <= 0 <= high < 0.1, "far tighter than two independent means would allow"
    assert difference_interval(second, first, groups) == pytest.approx((-high, -low), abs=0.011)


def test_groups_widen_an_interval_of_a_difference_too() -> None:
    values, groups = clustered(random.Random(5), 16, 6)
    half = [0.5] * len(values)
    alone = difference_interval(values, half, [str(i) for i in range(len(values))])
    together = difference_interval(values, half, groups)
    assert together[1] - together[0] > 1.4 * (alone[1] - alone[0])


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
    assert (easy["n"], easy["accuracy"], easy["agreement_with_system2"]) == (2, 1.0, 0.5)
    assert (easy["tokens_per_answer"], easy["unreadable"], easy["latency_ms_p50"]) == (1.5, 0.0, 200.0)
    whole = describe_system(answers, rows, gold, system2, None)
    assert (whole["n"], whole["accuracy"], whole["agreement_with_system2"], whole["unreadable"]) == (4, 0.5, 0.5, 0.25)
    assert whole["tokens_per_answer"] == 26.5
    assert {name: (s["n"], s["accuracy"]) for name, s in whole["slices"].items()} == {
        "easy": (2, 1.0),
        "hard": (2, 0.0),
        "odd": (2, 0.5),
    }
    unlabelled = describe_system(answers, rows, ["a", None, "a", "a"], system2, None)
    assert (unlabelled["accuracy"], unlabelled["accuracy_ci"]) == (None, None)
    assert unlabelled["slices"]["hard"]["accuracy"] == 0.0, "a slice that is labelled throughout has its accuracy"
    assert members(rows, "odd") == [1, 3]


def test_a_difference_of_scores_is_the_mean_of_the_rows_differences() -> None:
    found = difference([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0], ["a", "b", "c", "d"])
    assert found["difference"] == 0.5
    assert found["ci"][0] <= 0.5 <= found["ci"][1]


# --- verdicts


def of(low: float, high: float) -> Difference:
    return Difference((low + high) / 2, low, high)


BETTER = of(0.1, 0.3)


@pytest.mark.parametrize(
    ("system2", "over_system1", "to_system2", "verdict", "words"),
    [
        (of(-0.3, -0.1), None, None, "keep-system1", "nothing to distil"),
        (of(-0.2, 0.1), BETTER, of(0, 0.1), "keep-system1", "does not beat"),
        (of(0, 0), None, None, "keep-system1", "does not beat"),
        (of(-0.1, 0.3), BETTER, of(0, 0.1), "inconclusive", "may not beat System 1"),
        (BETTER, None, None, "keep-system2", "nothing was distilled"),
        (BETTER, of(0.1, 0.2), of(-0.04, 0.02), "ship", "within 0.05"),
        (BETTER, of(0.2, 0.3), of(0.1, 0.2), "ship", "within 0.05"),
        (BETTER, of(0.05, 0.1), of(-0.2, -0.06), "route", "falls short"),
        (BETTER, of(-0.1, 0.1), of(-0.2, -0.06), "keep-system2", "not above System 1"),
        (BETTER, of(-0.3, -0.1), of(-0.4, -0.2), "keep-system2", "not above System 1"),
        (BETTER, of(0.05, 0.1), of(-0.1, 0.02), "inconclusive", "more test prompts"),
        (BETTER, of(0.05, 0.1), of(-0.05, 0.02), "inconclusive", "more test prompts"),
    ],
)
def test_the_verdict_with_labels(
    system2: Difference, over_system1: Difference | None, to_system2: Difference | None, verdict: str, words: str
) -> None:
    distilled = None
    if over_system1 is not None and to_system2 is not None:
        distilled = {"system1": over_system1, "system2": to_system2}
    decided, reason = with_labels(system2, distilled, 0.05)
    assert decided == verdict
    assert words in reason


@pytest.mark.parametrize(
    ("over_floor", "to_ceiling", "verdict"),
    [
        (of(0.1, 0.2), None, "inconclusive"),
        (of(0.1, 0.2), of(-0.04, 0.02), "ship"),
        (of(0.1, 0.2), of(-0.2, -0.1), "route"),
        (of(0.1, 0.2), of(-0.2, 0.1), "route"),
        (of(-0.1, 0.1), of(-0.2, -0.1), "keep-system2"),
        (of(-0.1, 0.1), of(-0.2, 0.1), "inconclusive"),
    ],
)
def test_the_verdict_without_labels(over_floor: Difference, to_ceiling: Difference | None, verdict: str) -> None:
    decided, reason = without_labels(over_floor, to_ceiling, 0.05)
    assert decided == verdict
    assert "No labels" in reason
    assert "invisible" in reason


# --- runs


def report_of(cli: Cli, file: Path, run: Path) -> dict[str, Any]:
    done = cli("distill", file, "--out", run, "--quiet")
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
    assert "of 12 prompts were discarded for" in report["reason"]
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
    assert system2["agreement_with_system2"] == 1.0
    assert report["agreement"]["floor"] == system1["agreement_with_system2"] < 1
    assert 0 < report["agreement"]["ceiling"] < 1
    assert (report["verdict"], report["differences"]) == ("inconclusive", [])
    assert "without labels" in report["reason"]
    assert report["curation"]["label_precision"] is None


def test_the_report_counts_what_the_store_holds(recipe: Callable[..., Path], cli: Cli, tmp_path: Path) -> None:
    report = report_of(cli, recipe(prompts=40), tmp_path / "run")
    curation = report["curation"]
    kept = [json.loads(line) for line in (tmp_path / "run" / "curated.jsonl").read_text().splitlines()]
    gone = [json.loads(line) for line in (tmp_path / "run" / "discarded.jsonl").read_text().splitlines()]
    assert curation["kept"] == len(kept) == 40 - sum(curation["discarded"].values())
    assert curation["samples"] == sum(line["n"] for line in kept + gone) < curation["samples_fixed_n"] == 320
    assert curation["calls"] == curation["samples"], "a technique of one call, and no prompt twice"
    for line in kept + gone:
        assert sum(line["votes"].values()) + line.get("unreadable", 0) + line.get("cut off", 0) == line["n"]
    assert min(line["agreement"] for line in kept) >= 0.75 > min(line["agreement"] for line in gone)
    assert all(line["reason"] for line in gone)


def test_a_half_finished_run_has_a_report(recipe: Callable[..., Path], cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert cli("sample", run, "--recipe", recipe(), "--quiet").returncode == 0
    assert cli("report", run, "--quiet").returncode == 0
    report = json.loads((run / "report.json").read_text())
    assert (report["verdict"], report["reason"]) == ("inconclusive", "The systems are not evaluated yet.")
    assert report["curation"]["prompts"] == 12
    assert report["systems"]["system1"] is None
    assert cli("distill", tmp_path / "recipe.yaml", "--out", run, "--set", "sampling.n=9", "--quiet").returncode == 0
    assert cli("report", run, "--quiet").returncode == 0
    assert json.loads((run / "report.json").read_text())["systems"]["system1"]["n"] == 8


def test_a_few_prompts_that_all_differ_alike_prove_nothing() -> None:
    low, high = difference_interval([1.0] * 3, [1.0] * 3, ["a", "b", "c"])
    assert low < -0.3
    assert high > 0.3
    narrow = difference_interval([1.0] * 500, [1.0] * 500, [str(i) for i in range(500)])
    assert -0.01 < narrow[0] < 0 < narrow[1] < 0.01
