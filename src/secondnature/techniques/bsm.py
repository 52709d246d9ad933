"""Branch-Solve-Merge: judge two answers criterion by criterion, and merge the scores into a verdict."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

from secondnature.answers import after_reasoning
from secondnature.techniques.turns import EXTRACT, conversation, demonstrated, fill, side_by_side
from secondnature.types import Ask, Example, Message, UserError

Read = TypeVar("Read")

VERDICT = "A, B or tie"
MOST_CRITERIA = 5
LOWEST, HIGHEST = 1, 5

BRANCH = (
    "Two answers to the question below are going to be compared. By which criteria should they be judged? Name up to five "
    "that matter for this question, one a line, each in a few words. Do not answer the question.\n\nQuestion: {question}"
)
SOLVE = (
    "Question: {question}\n\nAnswer A: {answer_a}\n\nAnswer B: {answer_b}\n\nJudge both answers by one criterion alone: "
    "{criterion}\nGive each a score from 1 (poor) to 5 (excellent). Reply in one line: the letter A with its score, then the "
    "letter B with its score."
)
SCORES = "So what are the two scores? Reply in one line: the letter A with its score, then the letter B with its score."
MERGE = (
    "Question: {question}\n\nAnswer A: {answer_a}\n\nAnswer B: {answer_b}\n\nThe two answers were scored from 1 to 5:\n"
    "{scores}\n\nWeigh the criteria. Which answer is better? Reply with {form} only."
)

_LISTED = re.compile(r"\s*(?:\d+\s*[.):]|[A-E][.)]|[-*•+])\s*(?P<item>\S.*)")
_SCORE = re.compile(
    r"\b(?P<side>[AB])\b(?P<link>[^\dAB]{1,40}?)(?P<score>\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*(?P<most>\d+))?(?![\d%]|[.,/]\d)"
)
# The words between a side and its score: one of the verbs, or a sign, must be among them ("A score of 4" has none).
_VERBS = {"scores", "gets", "got", "receives", "earns", "deserves", "is", "was"}
_NOUNS = {"s", "score", "rating", "grade", "a", "an", "of", "at"}
_SIGNS = ":=([-\u2013\u2014"
_BARE = re.compile(r"\s*([1-5])(?:/5)?[\s,;]+([1-5])(?:/5)?[\s.]*")
_VERDICT = re.compile(r"\b(?:A|B|(?i:tie))\b(?! (?!is\b|wins\b|and\b|or\b)[a-z])")  # "A good answer" names none
_OTHER = {"A": "B", "B": "A", "tie": "tie", "": ""}


async def branch_solve_merge(
    example: Example,
    ask: Ask,
    *,
    criteria: Sequence[str] = (),
    branch: str = BRANCH,
    solve: str = SOLVE,
    merge: Literal["sum", "call"] = "sum",
    merge_prompt: str = MERGE,
    both_orders: bool = True,
    branch_demonstrations: Sequence[Mapping[str, str]] = (),
    solve_demonstrations: Sequence[Mapping[str, str]] = (),
    extract: Literal["unparsable", "never"] = "unparsable",
) -> str:
    """Branch-Solve-Merge, for a judge of two answers: "A", "B" or "tie" (Saha et al., 2023, arXiv 2310.15123).

    Branch sees only the question and names up to five criteria (or `criteria` are given). Solve scores both answers from 1
    to 5 by one of them, a call each. Merge adds up the scores, or is one more call. With `both_orders` all that is done
    with the answers exchanged too, and a winner must win both times. Where anything cannot be read, there is no verdict.

    `branch_demonstrations` have `question` and `criteria`, `solve_demonstrations` have `question`, `answer_a`, `answer_b`,
    `criterion` and `scores`. The example needs the fields question, answer_a and answer_b. Where scores or a merged verdict
    cannot be read, one more call asks for them alone, but not with `extract` never.
    """
    if extract not in ("unparsable", "never"):
        raise UserError(f"technique.extract: unparsable or never, not {extract!r}")
    if merge not in ("sum", "call"):
        raise UserError(f"technique.merge: bsm merges by sum or by call, not by {merge!r}")
    question, first, second = _fields(example)

    async def read(turns: list[Message], reader: Callable[[str], Read], again: str) -> Read:
        """What `reader` finds in the reply, or in the reply to `again` where it finds nothing."""
        reply = await ask(turns)
        if (found := reader(reply)) or extract == "never":
            return found
        return reader(await ask([*turns, Message("assistant", reply), Message("user", again)]))

    async def branched() -> list[str]:
        shown = demonstrated(branch_demonstrations, branch, "{criteria}")
        text = fill("branch", branch, question=question)
        return criteria_in(await ask(conversation(example, text, shown)))

    async def solved(criterion: str, pair: Mapping[str, str]) -> tuple[float, float] | None:
        text = fill("solve", solve, question=question, criterion=criterion, **pair)
        shown = demonstrated(solve_demonstrations, solve, "{scores}")
        return await read(conversation(example, text, shown), scores_in, SCORES)

    async def judged(answer_a: str, answer_b: str) -> str:
        pair = {"answer_a": answer_a, "answer_b": answer_b}
        scores = [score for score in await side_by_side(solved(name, pair) for name in names) if score is not None]
        if not names or len(scores) < len(names):
            return ""
        if merge == "sum":
            a, b = (sum(side) for side in zip(*scores, strict=True))
            return "A" if a > b else "B" if b > a else "tie"
        lines = "\n".join(f"{name}: A {a:g}, B {b:g}" for name, (a, b) in zip(names, scores, strict=True))
        text = fill(
            "merge_prompt", merge_prompt, may_miss=["form"], question=question, scores=lines, form=VERDICT, **pair
        )
        return await read(conversation(example, text), verdict_in, EXTRACT.format(form=VERDICT))

    names = list(criteria) or await branched()
    if not both_orders:
        return await judged(first, second)
    one, exchanged = await side_by_side([judged(first, second), judged(second, first)])
    other = _OTHER[exchanged]
    if not one or not other:
        return ""
    return one if one == other else "tie"


def _fields(example: Example) -> tuple[str, str, str]:
    for name in ("question", "answer_a", "answer_b"):
        if not example.fields.get(name, "").strip():
            raise UserError(
                f"technique: bsm judges answer_a and answer_b to a question, and {example.id} has no {name!r}: "
                "name these columns in data.fields or data.template"
            )
    return example["question"], example["answer_a"], example["answer_b"]


def criteria_in(reply: str) -> list[str]:
    """Up to five criteria: the listed lines of a reply, or all but those that lead in to a list, where none is listed."""
    lines = [re.sub(r"\*\*|__|`", "", line).rstrip() for line in reply.splitlines() if line.strip()]
    numbered = [line for line in lines if re.match(r"\s*\d+\s*[.):]", line)]  # what is below a number explains it
    listed = [found["item"] for line in numbered or lines if (found := _LISTED.fullmatch(line))]
    items = listed or [line.strip() for line in lines if not line.endswith(":")]
    return list(dict.fromkeys(item.strip().rstrip(":").strip() for item in items))[:MOST_CRITERIA]


def scores_in(reply: str) -> tuple[float, float] | None:
    """The scores of A and B; None where one is missing, off the scale or given twice and differently."""
    reply = re.sub(r"\*\*|__|`", "", reply)
    if bare := _BARE.fullmatch(reply):
        return float(bare[1]), float(bare[2])
    given: dict[str, set[float]] = {"A": set(), "B": set()}
    for found in _SCORE.finditer(reply):
        link = found["link"].casefold()
        words = set(re.findall(r"[^\W_]+", link))
        if words <= _VERBS | _NOUNS and (words & _VERBS or any(sign in link for sign in _SIGNS)):
            given[found["side"]].add(float(found["score"]))
            if found["most"] not in (None, str(HIGHEST)):
                return None
    if any(len(scores) != 1 or not LOWEST <= max(scores) <= HIGHEST for scores in given.values()):
        return None
    return given["A"].pop(), given["B"].pop()


def verdict_in(reply: str) -> str:
    """The one verdict that a reply names; nothing where it names none or several."""
    text = after_reasoning(reply) or reply
    named = {found.lower() if len(found) > 1 else found for found in _VERDICT.findall(text)}
    return named.pop() if len(named) == 1 else ""
