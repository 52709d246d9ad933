"""What a report says is to be done next, in every case, and the examples that it opens with."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conftest import Finished, rows_of
from pages import check
from reports import SETTINGS, figures, full, report
from secondnature.answers import KINDS
from secondnature.context import RunContext
from secondnature.evaluate.measure import Measured
from secondnature.evaluate.score import Answers
from secondnature.report.advice import next_step
from secondnature.report.model import Report
from secondnature.report.show import before_and_after
from secondnature.types import Example, Message, Row, Sample

pytestmark = pytest.mark.usefixtures("trusting")

Cli = Callable[..., Finished]
SLOW = {**figures(0.6, 20.0), "unparsable": 0.05, "truncated": 0.0}
UNLABELLED = {**SLOW, "accuracy": None, "accuracy_ci": None}
TEST = full()["tests"][0]
LIFTS = [{**TEST, "name": "system2 - system1", "decided": True}]
POWER = {**full()["power"], "groups": 20, "needed": 612}


def of(slow: Mapping[str, Any] | None, distilled: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"system2": slow, "distilled": distilled}


def kept(number: int, **discarded: int) -> dict[str, Any]:
    reasons = {reason.replace("_", " "): count for reason, count in discarded.items()}
    return {**full()["curation"], "kept": number, "discarded": reasons}


def run(verdict: str = "inconclusive", **parts: Any) -> Report:
    given = {"systems": of(SLOW, SLOW), "curation": kept(40, low_agreement=3), "power": POWER, "tests": LIFTS}
    return report(**{**given, "verdict": verdict, "agreement": None, **parts})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (run("ship"), ['`secondnature ask RUN "..."`', "`secondnature export RUN`"]),
        (run("ship", part="dev"), ["--set evaluate.part=test"]),
        (run("route"), ["secondnature export RUN", "System 2", "data.train"]),
        (run("keep-system2"), ["verify.min_agreement (now 0.75)", "train.num_train_epochs", "evaluate.part: dev"]),
        (run("keep-system2", systems=of(SLOW)), ["Train on the 40 kept answers: `secondnature train RUN`"]),
        (run(systems=of(SLOW), curation=None), ["`secondnature distill RUN/recipe.yaml --out RUN`"]),
        (run("keep-system1"), ["another technique", "secondnature look RECIPE", "system1.instruction"]),
        (run("keep-system1", curation=kept(0)), ["another technique"]),
        (run(), ["about 612 independent groups (there are 20)", "data.test", "`secondnature evaluate RUN`"]),
        (run(power={**POWER, "needed": None}), ["Give more test prompts", "data.test"]),
        (run(settings={**SETTINGS, "limit": 60}), ["leave that out", "--limit 60"]),
        (run(systems=of(SLOW), tests=[]), ["612 independent groups"]),
        (run(systems=of(None)), ["`secondnature distill", "data.test"]),
        (run(systems=of({**SLOW, "unparsable": 0.96, "truncated": 0.1})), ["which form", "`secondnature look"]),
        (run(systems=of({**SLOW, "unparsable": 0.5, "truncated": 0.4})), ["Raise sampling.max_tokens (now 128)"]),
        (run("keep-system2", curation=kept(0, truncated=9)), ["sampling.max_tokens (now 128)"]),
        (run("keep-system2", curation=kept(0, unparsable=9, tie=1)), ["which form"]),
        (run("keep-system2", curation=kept(0, low_agreement=9)), ["sampling.temperature (now 0.7)"]),
        (run(systems=of(UNLABELLED, UNLABELLED), tests=[]), ["Measure System 2 against itself"]),
        (run(systems=of(UNLABELLED), tests=[]), ["Train on the 40"]),
        (
            run(systems=of(UNLABELLED, UNLABELLED), agreement={"floor": 0.1, "ceiling": 0.3}),
            ["Label some test prompts"],
        ),
        (run(systems=of(UNLABELLED, UNLABELLED), agreement={"floor": 0.1, "ceiling": 0.9}), ["612 independent groups"]),
    ],
)
def test_every_verdict_has_a_next_step(given: Report, words: list[str]) -> None:
    said = next_step(given)
    for word in words:
        assert word in said, said
    assert said.endswith(".")
    assert said.count("`") % 2 == 0


# --- runs that are broken on purpose

MUMBLE = """
async def mumble(example, ask):
    await ask(example.messages)
    return "Hm."

async def red(example, ask):
    await ask(example.messages)
    return "red"
"""


def broken(cli: Cli, file: Path, run: Path) -> tuple[dict[str, Any], str, str]:
    """Its report, what the terminal says, and the text of its page."""
    (run.parent / "mine.py").write_text(MUMBLE)
    done = cli("distill", file, "--out", run, "--quiet", "--anyway")
    assert done.returncode == 0, done.stderr
    found = json.loads((run / "report.json").read_text())
    page = check((run / "report.html").read_text(encoding="utf-8")).text
    step = found["next_step"].replace("RUN", str(run))
    assert f"Next: {step}" in done.stdout
    assert f"Next: {step.replace('`', '')}" in page
    for caveat in found["caveats"]:
        assert f"- {caveat['text']}" in done.stdout
    return found, done.stdout, page


def test_where_system_2_cannot_be_read_that_is_the_verdict(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    found, said, page = broken(cli, recipe(technique={"name": "mine.py:mumble"}), tmp_path / "run")
    assert found["verdict"] == "inconclusive"
    assert "Nothing was kept: 12 of 12 prompts were discarded as 'unparsable'." in found["reason"]
    assert "100% of System 2's answers cannot be read, so nothing here measures it" in found["reason"]
    assert "Say in the prompt in which form an answer must end" in found["next_step"]
    assert found["systems"]["system2"]["truncated"] == 0
    [row] = [line for line in said.splitlines() if line.strip().startswith("System 2 ")]
    assert "100%" in row
    assert "8 of 8 System 2 answers cannot be read: these are" in page


def test_too_few_groups_are_said_with_how_many_it_takes(recipe: Callable[..., Path], cli: Cli, tmp_path: Path) -> None:
    found, _, page = broken(cli, recipe(), tmp_path / "run")
    assert found["verdict"] == "inconclusive"
    assert "(there are 4), in data.test" in found["next_step"]
    assert "Before and after" in page


def test_a_tie_is_open_with_few_prompts_and_keeps_system_1_with_many(
    recipe: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    file = recipe(technique={"name": "direct"}, held_out=160, sampling={"temperature": 0.7, "n": 4})
    found, _, _ = broken(cli, file, tmp_path / "run")
    assert found["verdict"] == "keep-system1"
    assert "another technique" in found["next_step"]
    cut = cli("distill", file, "--out", tmp_path / "few", "--limit", "20", "--quiet")
    assert "inconclusive: System 2 may or may not beat System 1: +0.000" in cut.stdout
    assert "--limit 20: leave that out" in cut.stdout


def test_a_system_1_that_cannot_be_read_counts_as_wrong_and_is_said(
    recipe: Callable[..., Path],
    jsonl: Callable[[str, Iterable[Mapping[str, Any]]], Path],
    cli: Cli,
    tmp_path: Path,
) -> None:
    for part in ("train", "test"):
        jsonl(f"{part}.jsonl", [{**row, "answer": "red"} for row in rows_of(part, 20)])
    file = recipe(answer={"kind": "label", "labels": ["red", "blue"]}, technique={"name": "mine.py:red"})
    found, said, _ = broken(cli, file, tmp_path / "run")
    assert found["verdict"] == "keep-system2"
    assert "Train on the 20 kept answers" in found["next_step"]
    assert "100% of the answers of System 1 cannot be read" in said


# --- the examples at the top


def told(own: str, fast: str, slow: str, verdict: str, gold: str | None) -> tuple[str, list[str]]:
    """How the examples are chosen, and their ids, of systems that say y, n or . (unparsable) to each prompt."""
    words, key = {"y": "yes", "n": "no", ".": None}, KINDS["yes_no"].normalize
    rows = [Row(Example(str(i), (Message("user", "?"),)), gold and words[gold[i]], str(i)) for i in range(len(own))]
    measured = Measured(rows)
    for name, given in (("system1", fast), ("system2", slow), ("distilled", own)):
        answers = [words[letter] for letter in given]
        measured.samples[name] = [Sample(0, a or "", a, None if a else "unparsable", ()) for a in answers]
        measured.answers[name] = Answers.of(measured.samples[name], key, [], "")
    accuracy = None if gold is None else 0.5
    slow = {**SLOW, "accuracy": accuracy, "unparsable": measured.answers["system2"].unparsable}
    context = cast(RunContext, SimpleNamespace(resolved=SimpleNamespace(kind=KINDS["yes_no"])))
    how, shown = before_and_after(context, measured, run(verdict, headline=None, systems=of(slow)))
    return how, [example.id for example in shown]


def test_a_gain_is_shown_by_three_of_those_that_were_gained() -> None:
    how, ids = told("yyyyyyyyyn", "nnnnnnyyyy", "yyyyyyyyyy", "ship", "y" * 10)
    assert how.startswith(
        "Of 10 test prompts the distilled model is right and System 1 wrong on 6, the distilled model is wrong"
    )
    assert "System 1 right on 1, both are right on 3, both are wrong on 0." in how
    assert ids == ["1", "3", "5"], "evenly spread among the first six"


def test_where_it_is_not_about_a_gain_each_of_the_commonest_kinds_is_shown() -> None:
    how, ids = told("yyynnnnnny", "yyynnnnnyn", "yyyyyyyyyy", "keep-system2", "y" * 10)
    assert how.endswith("These are one of each of the commonest kinds.")
    assert ids == ["5", "1", "9"]


def test_without_labels_right_is_what_system_2_answers() -> None:
    how, ids = told("yyyyyynnnn", "nnnnnnnnnn", "yyyyyyyyyy", "route", None)
    assert "Right is what System 2 answers." in how
    assert "and System 1 wrong on 6," in how
    assert ids == ["1", "3", "5"]


def test_what_cannot_be_read_is_shown() -> None:
    how, ids = told("yyyyyynnnn", "nnnnnnnnnn", "......yyyy", "inconclusive", "y" * 10)
    assert how == "6 of 10 System 2 answers cannot be read: these are evenly spread among them."
    assert ids == ["1", "3", "5"]
