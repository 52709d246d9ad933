"""The symbolic tasks of Wei et al. (2022, arXiv 2201.11903), generated: last letters of names, and a coin that is turned."""

import re
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from secondnature.answers import KINDS, AnswerKind
from secondnature.tasks.base import Size, Task, draw, fair, generated, pick, shuffled
from secondnature.types import Example, Message, Row

# --- given names: none is in two parts

SHARES = {"test": 0.3, "dev": 0.1}  # the rest is train's

_WRITTEN = """
Aaron Abdul Abigail Adam Adele Adrian Agnes Ahmed Aisha Alan Albert Alejandro Alexander Alfred Ali Alice Alicia Alma Amara
Amelia Amir Amit Amy Ana Anders Andre Andrea Andrew Angela Anil Anita Anna Anthony Anton Arjun Arthur Asha Astrid Audrey Axel
Aylin Barbara Beatrice Ben Benedict Bernard Bianca Bjorn Boris Brandon Brenda Brian Bruno Caleb Camila Carl Carlos Carmen
Caroline Cecilia Cedric Celine Charles Charlotte Chen Chiara Chidi Christina Clara Claude Colin Conrad Cora Craig Cynthia Dalia
Daniel Daphne David Deborah Deepak Denise Derek Diana Diego Dmitri Dolores Dominic Donald Dora Doris Duncan Edgar Edith Eduardo
Edwin Eileen Elena Eli Elias Elif Elizabeth Ella Ellen Elliot Elsa Emeka Emil Emily Emma Enrique Eric Esteban Esther Ethan Eva
Evelyn Fabian Farah Fatima Felix Fernando Fiona Florian Frances Francisco Frank Frederick Gabriel Gareth Gemma George Gerald
Gilbert Gina Gloria Gordon Greta Guido Gustav Hana Hannah Harold Harriet Hassan Heather Hector Heidi Helen Henrik Henry Hilda
Hiroshi Howard Hugo Ian Ibrahim Ida Igor Imani Ines Ingrid Irene Isaac Isabel Ivan Jacob Jakub James Jamila Jan Jane Jasmin
Javier Jerome Jessica Joan Joel Johan John Jonas Jorge Joseph Josephine Joshua Juan Judith Julia Julian Jun Kamal Karen Karim
Karl Katarina Katherine Keiko Kenneth Kenji Kevin Khalid Kofi Kurt Kwame Laila Lars Laura Laurence Leah Leila Lena Leo Leonard
Leticia Lewis Liam Lily Linda Lionel Lisa Liv Lorenzo Louis Lucas Lucy Luis Lydia Magnus Malik Manuel Marco Margaret Maria
Marian Mario Martha Martin Mary Mateo Matilda Matthew Maurice Max Maya Megan Mehmet Mei Mercedes Michael Miguel Milan Mina
Miriam Mohamed Monica Nadia Naomi Natalie Nathan Neil Ngozi Nicholas Nicole Nils Nina Noah Nora Norman Olga Oliver Olivia Omar
Oscar Otto Pablo Patricia Patrick Paul Paula Pavel Pedro Penelope Peter Philip Pierre Priya Quentin Rachel Rafael Rahul Ralph
Ramon Rania Raymond Rebecca Renata Ricardo Richard Rita Robert Rohan Roland Rosa Ruben Rupert Ruth Sabine Salim Samuel Sandra
Sanjay Sarah Sebastian Sergei Silvia Simon Sofia Soren Stefan Stella Stephen Susan Sven Sylvia Tamara Tanya Tariq Teresa
Theodore Thomas Tobias Tomas Ursula Valentina Vera Veronica Victor Vincent Vivian Vladimir Walter Wanda Wendy Wesley William
Xavier Yasmin Yolanda Yuki Yusuf Zainab Zara Zoe
"""
NAMES = _WRITTEN.split()


@cache
def names_of(part: str) -> tuple[str, ...]:
    """The names of train, dev or test."""
    names = shuffled(NAMES, "names")
    test = round(SHARES["test"] * len(names))
    dev = test + round(SHARES["dev"] * len(names))
    return tuple({"test": names[:test], "dev": names[test:dev], "train": names[dev:]}[part])


def some_names(part: str, number: int, *key: str) -> list[str]:
    """`number` different names of a part, in an order that `key` decides."""
    left = list(names_of(part))
    return [left.pop(draw(len(left), *key, f"name {n}")) for n in range(number)]


# --- last letters

WORDINGS = (
    'Which letters do the names in "{names}" end with? Write them one after another, as one word.',
    'Put together the last letter of each name in "{names}", keeping their order.',
    'Here is a list of names: "{names}". Write down the final letter of every one of them, with nothing in between.',
    'Look at the last letters of the names "{names}". What do they spell when joined from left to right?',
)


def last_letters(
    *, words: Annotated[int, Field(ge=2, le=20)] = 2, train: Size = 400, dev: Size = 60, test: Size = 200
) -> Task:
    """Put together the last letters of `words` names; no name of the test prompts is in a training prompt."""

    def row(part: str, number: int, key: str) -> Row:
        names = some_names(part, words, "last_letters", str(words), key)
        joined = " ".join(names)
        text = pick(WORDINGS, "last_letters", key, "wording").format(names=joined)
        example = Example(f"{part}-{number}", (Message("user", text),), {"names": joined})
        return Row(example, "".join(name[-1] for name in names), group=joined)

    sizes = {"train": train, "dev": dev, "test": test}
    return Task("last_letters", KINDS["letters"], lambda: generated(sizes, row))


# --- a coin

STARTS = ("A coin lies on a table, {side} up.", "There is a coin that shows {side}.", "At first, a coin has {side} up.")
# What somebody does who turns the coin over, and who does not.
DEEDS = (
    ("{name} turns it over.", "{name} leaves it as it is."),
    ("Then {name} flips it to its other side.", "Then {name} looks at it and does nothing."),
    ("{name} turns the coin upside down.", "{name} does not touch the coin."),
)
QUESTIONS = (
    "Is {side} still up? Answer yes or no.",
    "Does the coin show {side} at the end? Answer with yes or no.",
    "Yes or no: after all this, is it {side} that is up?",
)

_SIDE = re.compile(r"\b(heads|tails)\b", re.IGNORECASE)
_STATED = re.compile(
    r"\b(?:coin|it|side)\b[^.?!\n]{0,30}?\b(?:is|was|shows|lies|lands|ends up|remains|stays|(?:will|would) (?:still )?be)"
    r"(?P<not>\s+no longer|\s+not|n't)?(?:\s+(?:still|now|then|again|currently|facing|showing|on|the|a))*\s+"
    r"(?P<side>heads|tails)\b(?! or\b)",
    re.IGNORECASE,
)


def _read_coin(example: Example, text: str) -> str | None:
    """Yes or no; where the reply has neither, what it last says of the coin, such as "The coin is still heads up"."""
    if (answer := KINDS["yes_no"].extract(example, text)) is not None:
        return answer
    asked, stated = _SIDE.findall(example.text), list(_STATED.finditer(text))
    if not asked or not stated:
        return None
    same = stated[-1]["side"].lower() == asked[-1].lower()
    return "yes" if same != bool(stated[-1]["not"]) else "no"


ANSWER = AnswerKind(
    "yes_no", "yes or no, or which side of the coin is up", _read_coin, KINDS["yes_no"].normalize, "yes or no"
)


def coin_flip(
    *,
    flips: Annotated[int, Field(ge=1, le=20)] = 2,
    start: Literal["heads", "tails", "either"] = "heads",
    train: Size = 400,
    dev: Size = 60,
    test: Size = 200,
) -> Task:
    """Follow a coin that each of `flips` people turns over or not; as many answers are yes as no."""

    def row(part: str, number: int, key: str) -> Row:
        key = f"coin_flip/{flips}/{key}"
        still = fair(number, "coin_flip", part)
        names = some_names(part, flips, key)
        turns = [draw(2, key, name) == 1 for name in names[1:]]
        turns.append((sum(turns) % 2 == 0) != still)  # the last one turns it where that makes the answer right
        side = pick(("heads", "tails"), key, "side") if start == "either" else start
        turned, left = pick(DEEDS, key, "deeds")
        deeds = [(turned if turn else left).format(name=name) for name, turn in zip(names, turns, strict=True)]
        sentences = [pick(STARTS, key, "start"), *deeds, pick(QUESTIONS, key, "question")]
        text = " ".join(sentences).format(side=side)
        example = Example(f"{part}-{number}", (Message("user", text),), {"names": " ".join(names)})
        return Row(example, "yes" if still else "no", group=" ".join(names))

    sizes = {"train": train, "dev": dev, "test": test}
    return Task("coin_flip", ANSWER, lambda: generated(sizes, row))
