"""Test prompts that are also in training: planted ones are found, and those of one template are not taken for them."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished
from secondnature.evaluate.contamination import Match, Template, overlaps, text_of, words_of
from secondnature.tasks import load_task
from secondnature.types import Example, Message, Row

Cli = Callable[..., Finished]
WriteRecipe = Callable[..., Path]
WriteJsonl = Callable[[str, Iterable[Mapping[str, Any]]], Path]


def row(name: str, text: str) -> Row:
    return Row(Example(name, (Message("user", text),)), None, name)


def rows(part: str, texts: Iterable[str]) -> list[Row]:
    return [row(f"{part}-{i}", text) for i, text in enumerate(texts)]


# --- overlap


def test_words_have_no_case_and_no_punctuation_but_signs_are_words() -> None:
    assert words_of("What is Lima\u2019s\n“ÉTÉ”?") == ["what", "is", "lima", "s", "été"]
    assert words_of("3 + 4 = 7") != words_of("3 - 4 = 7")


def planted(texts: list[str], draw: random.Random) -> dict[str, list[str]]:
    """Training prompts as they may stand in a test set: written otherwise, with a word more or less, inside more text."""

    def at(text: str, middle: Callable[[str], list[str]]) -> str:
        words = text.split()
        k = draw.randrange(len(words))
        return " ".join([*words[:k], *middle(words[k]), *words[k + 1 :]])

    return {
        "otherwise": [text.upper().replace(".", " ...") for text in texts],
        "a word more": [at(text, lambda word: [word, "really"]) for text in texts],
        "a word less": [at(text, lambda word: []) for text in texts],
        "inside": [
            f"Please read this and answer in one sentence: {text} Many thanks for all your help." for text in texts
        ],
    }


@pytest.mark.parametrize("task", ["biased_capitals", "coin_flip", "last_letters"])
def test_planted_prompts_are_found_and_the_tasks_own_test_prompts_are_not(task: str, tmp_path: Path) -> None:
    """The built-in tasks are the hard case: all their prompts come from a few templates."""
    parts = load_task(task, {}, tmp_path).parts()
    draw = random.Random(0)
    chosen = draw.sample(list(parts.train), 60)
    found = right = number = 0
    for kind, texts in planted([text_of(r) for r in chosen], draw).items():
        test = [*parts.test, *rows(kind, texts)]
        flagged = overlaps(test, parts.train)
        hits = sum(i >= len(parts.test) for i in flagged)
        assert hits >= (60 if kind == "otherwise" else 45), (kind, hits)
        found, right, number = found + len(flagged), right + hits, number + len(texts)
    assert right / number >= 0.9, "recall: what is missed has lost the word that told it from the others"
    assert right / found >= 0.98, "precision"


def test_a_prompt_of_the_same_template_is_no_duplicate_and_one_with_the_same_content_is() -> None:
    towns = [f"town{i}" for i in range(100)]
    train = rows("train", (f"What is the capital of {a}? I think that it is {a}ville." for a in towns))
    test = [
        row("other", "What is the capital of Utopia? I think that it is town3ville."),
        row("same", "what is the Capital of town3; I think it is town3ville"),
        row("exact", "What is the capital of TOWN4? I think that it is town4ville!"),
    ]
    found = overlaps(test, train)
    assert {i: (m.kind, m.source) for i, m in found.items()} == {
        1: ("near-duplicate", "train-3"),
        2: ("exact", "train-4"),
    }
    assert found[1].score > 0.7
    assert found[1].other == text_of(train[3])


def test_a_long_run_of_words_is_found_inside_other_text_and_a_short_one_is_not() -> None:
    draw = random.Random(1)
    words = [f"w{i}" for i in range(3000)]
    texts = [" ".join(draw.sample(words, 60)) for _ in range(50)]
    train = rows("train", texts)
    given = texts[7].split()
    test = [
        row("long", " ".join(given[10:50])),
        row("mostly", " ".join([*given[10:40], *draw.sample(words, 10)])),
        row("half", " ".join([*given[10:30], *draw.sample(words, 20)])),
        row("scattered", " ".join(given[::2])),
        row("short", " ".join([*given[:8], *draw.sample(words, 30)])),
    ]
    found = overlaps(test, train)
    assert {test[i].example.id: (m.kind, m.source) for i, m in found.items()} == {
        "long": ("n-gram", "train-7"),
        "mostly": ("n-gram", "train-7"),
    }
    assert found[1].score == pytest.approx(30 / 40, abs=0.05)


def test_a_word_that_only_training_prompts_have_tells_them_apart_too() -> None:
    train = rows("train", (f"Name the capital of land{i}. Perhaps hill{i % 30}." for i in range(100)))
    test = [row("a", "Name the capital. Perhaps hill5.")]
    assert overlaps(test, train) == {}


class Counted:
    """Rows that are not in memory, and how often they were gone through."""

    def __init__(self, number: int):
        self.number, self.passes = number, 0

    def __iter__(self) -> Iterator[Row]:
        self.passes += 1
        draw = random.Random(2)
        for i in range(self.number):
            yield row(str(i), " ".join(f"w{draw.randrange(2000)}" for _ in range(30)))


def test_training_prompts_are_streamed_twice() -> None:
    train = Counted(3000)
    again = next(iter(Counted(1)))
    assert [m.kind for m in overlaps([again, row("new", "nothing of the sort")], train).values()] == ["exact"]
    assert train.passes == 2


def test_the_surer_kind_wins_and_then_the_higher_score() -> None:
    near, nearer, exact = (
        Match(k, "s", v, "") for k, v in (("near-duplicate", 0.8), ("near-duplicate", 0.9), ("exact", 1))
    )
    assert exact.beats(nearer)
    assert nearer.beats(near)
    assert near.beats(None)
    assert not near.beats(exact)


def test_the_template_of_test_prompts_is_known_from_both_parts() -> None:
    test = rows("test", (f"Q: item{i} is dear. Answer briefly." for i in range(20)))
    train = rows("train", (f"Tell me: thing{i} is dear." for i in range(300)))
    template = Template.of(test, train)
    assert {"q", "answer", "briefly", "answer briefly", "is", "dear"} <= template.common
    assert not {"item3", "item3 is"} & template.common
    assert not template.is_rare("tell")
    assert template.is_rare("thing3")


# --- a run

_draw = random.Random(3)
STORIES = [" ".join(f"word{_draw.randrange(4000)}" for _ in range(30)) + f" how many in story{i}?" for i in range(8)]


def test_flagged_prompts_are_listed_and_the_figures_are_given_without_them(
    recipe: WriteRecipe, jsonl: WriteJsonl, cli: Cli, tmp_path: Path
) -> None:
    leaked = [{"id": "leak", "prompt": STORIES[3].upper()}]
    jsonl("train.jsonl", [*({"prompt": f"thing{i} what is it"} for i in range(12)), *leaked])
    stories = enumerate(STORIES)
    jsonl("test.jsonl", [{"id": f"t{i}", "prompt": s, "answer": 1000 + i, "group": str(i)} for i, s in stories])
    run = tmp_path / "run"
    data = {"train": "train.jsonl", "dev": "test.jsonl", "test": "test.jsonl"}
    file = recipe(data=data, answer={"kind": "number"}, evaluate={"latency_prompts": 0})
    assert cli("distill", file, "--out", run, "--quiet", "--anyway").returncode == 0
    report = json.loads((run / "report.json").read_text())
    found = report["contamination"]
    assert (found["n"], found["flagged"], found["kinds"]) == (8, 1, {"exact": 1, "n-gram": 0, "near-duplicate": 0})
    [leak] = found["rows"]
    assert (leak["id"], leak["kind"], leak["train_id"], leak["score"]) == ("t3", "exact", "leak", 1.0)
    assert leak["train_text"] == STORIES[3].upper()[:200]
    assert found["without"]["n"] == found["without"]["systems"]["system1"]["n"] == 7
    assert "1 of 8 test prompts are also in training" in [c["text"][:40] for c in report["caveats"]][-1]
    assert (
        cli("distill", file, "--out", run, "--set", "evaluate.contamination=false", "--quiet", "--anyway").returncode
        == 0
    )
    assert json.loads((run / "report.json").read_text())["contamination"] is None
