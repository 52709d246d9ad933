"""The tasks that are generated: names, letters, coins."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from made import load_task, rows_of
from secondnature.tasks.symbolic import NAMES, names_of
from secondnature.types import Example, Message, Row

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]


def test_names_are_plain_words_and_each_is_in_one_part() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 300
    assert all(re.fullmatch("[A-Z][a-z]+", name) for name in NAMES)
    parts = [set(names_of(part)) for part in ("train", "dev", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(NAMES)
    assert min(map(len, parts)) >= 20


@pytest.mark.parametrize("name", ["last_letters", "coin_flip"])
def test_no_name_of_the_test_prompts_is_in_a_training_prompt(name: str) -> None:
    def named(rows: Iterable[Row]) -> set[str]:
        return {word for row in rows for word in re.findall(r"[A-Za-z]+", row.example.text)} & {*NAMES}

    parts = load_task(name, {}).parts()
    assert len(named(parts.train)) > 100
    assert not named(parts.train) & (named(parts.test) | named(parts.dev))


def test_letters_are_those_of_the_names_in_the_prompt() -> None:
    for row in rows_of(load_task("last_letters", {"words": 4}).parts()):
        names = row.example["names"].split()
        assert f'"{" ".join(names)}"' in row.example.text
        assert len({*names}) == 4
        assert row.label == "".join(name[-1] for name in names)


@pytest.mark.parametrize(("flips", "start"), [(1, "heads"), (2, "tails"), (6, "either")])
def test_coins_are_followed_and_half_of_any_even_number_is_yes(flips: int, start: str) -> None:
    parts = load_task("coin_flip", {"flips": flips, "start": start, "train": 100, "dev": 10, "test": 50}).parts()
    sides: set[str] = set()
    for row in rows_of(parts):
        text = row.example.text
        turned = len(re.findall(r"turns it over|flips it to|turns the coin upside down", text))
        left = len(re.findall(r"leaves it as it is|does nothing|does not touch", text))
        assert turned + left == flips
        assert row.label == ("no" if turned % 2 else "yes")
        [side] = {*re.findall("heads|tails", text)}
        sides.add(side)
    assert sides == ({"heads", "tails"} if start == "either" else {start})
    assert Counter(row.label for row in parts.train[:50]) == {"yes": 25, "no": 25}
    by_place = Counter((n % 2, row.label) for n, row in enumerate(parts.train))
    assert min(by_place.values()) > 10, "the number of a row does not tell its answer"


# --- reading what a reply says of the coin


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Yes.", "yes"),
        ("The coin is still heads up. The flip of the coin is a reversal.", "yes"),
        ("The coin is not heads up.", "no"),
        ("After both flips it is no longer heads up.", "no"),
        ("So the coin is now showing tails.", "no"),
        ("First the coin is heads. Then Anna flips it, and the coin is tails up.", "no"),
        ("The coin isn't tails up.", "yes"),
        ("The coin is flipped, and the outcome is reversed.", None),
        ("The coin is heads or tails, who knows.", None),
        ("Heads are better than tails.", None),
    ],
)
def test_a_coin_is_read_from_what_a_reply_says_of_it_too(reply: str, answer: str | None) -> None:
    asked = Example("e", (Message("user", "A coin is heads up. Anna flips the coin. Is the coin still heads up?"),))
    assert load_task("coin_flip", {}).answer.extract(asked, reply) == answer


def test_a_coin_that_is_asked_about_tails_is_read_by_tails() -> None:
    asked = Example(
        "e", (Message("user", "A coin shows tails. Anna does nothing. Does the coin show tails at the end?"),)
    )
    read = load_task("coin_flip", {}).answer.extract
    assert [read(asked, f"The coin is {side} up.") for side in ("tails", "heads")] == ["yes", "no"]
