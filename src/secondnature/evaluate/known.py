"""Whether the base knows test prompts already: it is shown the first half of one, and must write or answer the rest.

Only prompts whose second half has several words of their own are asked: what is left of others can be guessed.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from secondnature.context import RunContext
from secondnature.evaluate.answers import answers
from secondnature.evaluate.overlap import SHARE, Match, Template, text_of, words_of
from secondnature.evaluate.score import members
from secondnature.sampling import Model, System
from secondnature.types import Ask, Decoding, Example, Row, Sample, Technique

MOST = 100  # test prompts that are asked
OWN = 5  # words that its second half must have to itself, at least
GUESSABLE = 0.05  # the share of labels from which on a right one is no surprise
MAX_TOKENS = 128
COMPLETE = (
    "Below is the first half of a text. Write the second half, word for word as it stands in the original, and nothing "
    "else.\n\n{half}"
)
ALONE = "The end of this question is missing. Give the answer to the whole question all the same.\n\n{half}"


@dataclass(frozen=True)
class Probed:
    """What the base made of halves: how many it was asked to complete, and to answer, and the rows that it knew."""

    completed: int
    alone: int
    matches: dict[int, Match]


def half_of(text: str) -> tuple[str, str]:
    """The text cut between the words nearest to its middle."""
    words = text.split(" ")
    middle = (len(words) + 1) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])


async def complete(example: Example, ask: Ask) -> str:
    """The rest of the prompt, from its first half."""
    return await ask(COMPLETE.format(half=half_of(example.text)[0]))


async def answer_alone(example: Example, ask: Ask) -> str:
    """An answer to the first half of the prompt."""
    return await ask(ALONE.format(half=half_of(example.text)[0]))


def completed(text: str, reply: str, common: set[str]) -> float | None:
    """The share of the second half's own words that `reply` has, in order; None where it has too few of them.

    Its own are words that are not common, and not in the first half.
    """
    first, second = map(words_of, half_of(text))
    own = {k for k, word in enumerate(second) if word not in common and word not in first}
    if len(own) < OWN:
        return None
    said = words_of(reply)[: 2 * len(second)]
    blocks = SequenceMatcher(None, second, said, autojunk=False).get_matching_blocks()
    return len(own & {k for block in blocks for k in range(block.a, block.a + block.size)}) / len(own)


async def ask_known(context: RunContext, model: Model) -> Probed:
    """Ask about up to MOST rows of the headline. Raises MissingCall where there is no engine and the store has not all."""
    rows, key = context.resolved.held_out, context.resolved.kind.normalize
    chosen = members(rows, context.run.recipe.evaluate.headline)
    common = Template.of([rows[i] for i in chosen], context.resolved.train).common
    telling = [i for i in chosen if completed(text_of(rows[i]), "", common) is not None]
    number = min(MOST, len(telling))
    asked = [telling[k * len(telling) // number] for k in range(number)]
    alone = [i for i in asked if i in _unguessable(context, chosen)]
    matches: dict[int, Match] = {}
    decoding = Decoding(temperature=0.0, max_tokens=MAX_TOKENS)

    async def ask(technique: Technique, places: Sequence[int]) -> list[Sample]:
        examples = [rows[i].example for i in places]
        return await answers(
            context,
            model,
            System(technique, decoding),
            examples,
            context.resolved.kind,
            "what the base knows of the test",
        )

    if not asked and model.engine is not None:
        context.display.say("evaluate.known: no test prompt has enough words of its own to tell knowing from guessing")
    for i, sample in zip(alone, await ask(answer_alone, alone), strict=True):
        answer = rows[i].label
        if sample.answer is not None and answer is not None and key(sample.answer) == key(answer):
            matches[i] = Match("answered alone", "", 1.0, sample.text)
    for i, sample in zip(asked, await ask(complete, asked), strict=True):
        score = completed(text_of(rows[i]), sample.text, common)
        if score is not None and score >= SHARE:
            matches[i] = Match("completed", "", score, sample.text)
    return Probed(len(asked), len(alone), matches)


def _unguessable(context: RunContext, chosen: Sequence[int]) -> set[int]:
    """The rows whose first half neither asks a question nor has the answer, which few other rows share."""
    rows, key = context.resolved.held_out, context.resolved.kind.normalize
    groups: dict[str, set[str]] = defaultdict(set)
    for i in chosen:
        if (answer := rows[i].label) is not None:
            groups[key(answer)].add(rows[i].group)
    most = max(1.0, GUESSABLE * len({rows[i].group for i in chosen}))

    def fits(row: Row) -> bool:
        if row.label is None or len(groups[key(row.label)]) > most:
            return False
        first = half_of(row.example.text)[0]
        return "?" not in first and f" {' '.join(words_of(row.label))} " not in f" {' '.join(words_of(first))} "

    return {i for i in chosen if fits(rows[i])}
