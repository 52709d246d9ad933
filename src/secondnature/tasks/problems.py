"""Word problems of grade-school arithmetic: a number that changes step by step, with its worked solution and wrong ones.

Every sentence is our own; numbers are drawn so that every step comes out whole and none below zero.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from secondnature.tasks.draws import draw, pick
from secondnature.tasks.names import some_names

LARGEST = 500  # total that may still be multiplied

# A theme's sentences by what they do to the total: begin it, add b, take away b, add k times b, multiply by k, divide by k.
THEMES: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "begin": ("{who} has {b} {things}.", "There are {b} {things} in {who}'s drawer."),
        "add": ("{other} gives {who} {b} more.", "Under the bed {who} finds another {b}."),
        "take": ("{who} hands {b} of them to {other}.", "On the way to school {b} of them get lost."),
        "groups": ("{who} buys {k} bags with {b} {things} in each.", "{k} friends bring {who} {b} {things} each."),
        "times": ("By spring {who} has {k} times as many as before.",),
        "share": ("{who} keeps one out of every {k} and throws the others away.",),
        "ask": ("How many {things} does {who} have in the end?", "How many {things} does {who} have now?"),
    },
    {
        "begin": ("{who} has {b} dollars in a jar.", "{who} starts the month with {b} dollars."),
        "add": ("{other} pays back {b} dollars that {who} had lent.", "A present of {b} dollars comes from {other}."),
        "take": ("{who} spends {b} dollars on a book.", "A bus ticket costs {who} {b} dollars."),
        "groups": (
            "{who} helps in a shop for {k} hours, at {b} dollars an hour.",
            "{who} sells {k} drawings for {b} dollars each.",
        ),
        "share": ("{who} keeps one dollar out of every {k} and gives the others to charity.",),
        "ask": ("How many dollars does {who} have after that?", "How much money, in dollars, is left to {who}?"),
    },
    {
        "begin": ("{who}'s bakery opens with {b} rolls on the shelf.", "{who} bakes {b} rolls before sunrise."),
        "add": ("{other} brings {b} rolls from the other shop.", "Another {b} rolls come out of the small oven."),
        "take": ("A hotel fetches {b} rolls.", "{b} rolls are sold before ten o'clock."),
        "groups": (
            "Then {k} trays of {b} rolls each come out of the oven.",
            "{other} carries in {k} crates of {b} rolls.",
        ),
        "share": ("At noon only one roll out of every {k} is still there.",),
        "ask": ("How many rolls are on the shelf now?", "How many rolls does {who} have then?"),
    },
    {
        "begin": ("A bus leaves the depot with {b} people on it.", "{who} drives a bus that has {b} passengers."),
        "add": ("At the market {b} people get on.", "In front of the school {b} more climb in."),
        "take": ("At the bridge {b} people get off.", "{b} of them leave the bus at the station."),
        "groups": ("Next, {k} groups of {b} people each get on.", "{k} families with {b} members each join them."),
        "ask": ("How many people are on the bus now?", "How many passengers does the bus have after that?"),
    },
    {
        "begin": (
            "A tank in {who}'s garden holds {b} litres of water.",
            "{who} fills {b} litres of water into a tank.",
        ),
        "add": ("The rain adds {b} litres.", "{other} pours in {b} litres more."),
        "take": ("The tomatoes get {b} litres of it.", "{b} litres leak out overnight."),
        "groups": ("{other} empties {k} buckets of {b} litres each into it.",),
        "times": ("A storm leaves {k} times as much water in it as there was.",),
        "share": ("In a dry summer it sinks to one litre for every {k} that were in it.",),
        "ask": ("How many litres are in the tank now?", "How much water, in litres, is in it at the end?"),
    },
)
THINGS = ("marbles", "stickers", "postcards", "shells", "buttons", "coins", "pencils", "beads")
STEPS = ("add", "take", "groups", "times", "share")
# How a solution begins, joins its steps, and ends.
STYLES = (
    ("Start with {begin}.", "\n", "{work}.", "The answer is {total}."),
    ("At first there are {begin}.", " ", "Then {work}.", "So the answer is {total}."),
    ("{begin} to begin with", "\n", "{work}", "Answer: {total}"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A change of the total by `b`, `k` times `b`, or the factor `k`; a wrong one is `off` by a slip."""

    what: str
    k: int = 0
    b: int = 0
    off: int = 0

    def context(self, total: int) -> tuple[str, int]:
        """The working, and the total after it. Raises ValueError where that is not whole or is below zero."""
        match self.what:
            case "add":
                sums, after = [(f"{total} + {self.b}", total + self.b)], total + self.b
            case "take":
                sums, after = [(f"{total} - {self.b}", total - self.b)], total - self.b
            case "groups":
                lot = self.k * self.b
                sums, after = [(f"{self.k} x {self.b}", lot), (f"{total} + {lot}", total + lot)], total + lot
            case "times":
                sums, after = [(f"{total} x {self.k}", total * self.k)], total * self.k
            case _:
                after, rest = divmod(total, self.k)
                if rest:
                    raise ValueError(f"{total} is not a multiple of {self.k}")
                sums = [(f"{total} / {self.k}", after)]
        after += self.off
        if after < 0:
            raise ValueError(f"{total} is too small")
        sums[-1] = (sums[-1][0], after)
        return ", ".join(f"{left} = {right}" for left, right in sums), after


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, the steps that answer it, and the answer."""

    question: str
    begin: int
    steps: tuple[Step, ...]
    answer: int


def problem(part: str, steps: int, key: str) -> Problem:
    """A problem of so many steps, with names of the part."""
    theme = pick(THEMES, key, "theme")
    who, other = some_names(part, 2, key)
    words = {"who": who, "other": other, "things": pick(THINGS, key, "things")}
    begin = total = 5 + draw(56, key, "begin")
    sentences = [pick(theme["begin"], key, "begin").format(b=begin, **words)]
    done: list[Step] = []
    unused = {what: list(theme.get(what, ())) for what in STEPS}
    for number in range(steps):
        at = f"{key}/{number}"
        possible = [step for step in _steps(total, at) if theme.get(step.what)]
        step = pick([step for step in possible if unused[step.what]] or possible, at, "step")
        left = unused[step.what] or list(theme[step.what])
        sentence = left.pop(draw(len(left), at, "sentence"))
        unused[step.what] = left
        sentences.append(sentence.format(k=step.k, b=step.b, **words))
        done.append(step)
        total = step.context(total)[1]
    sentences.append(pick(theme["ask"], key, "ask").format(**words))
    return Problem(" ".join(sentences), begin, tuple(done), total)


def _steps(total: int, key: str) -> Iterator[Step]:
    """One step of each sort that is possible."""
    yield Step("add", b=2 + draw(39, key, "add"))
    if total > 3:
        yield Step("take", b=2 + draw(min(total - 3, 39), key, "take"))
    yield Step("groups", k=2 + draw(5, key, "k"), b=3 + draw(10, key, "b"))
    factors = [k for k in range(2, 5) if total * k <= LARGEST]
    if factors and total > 1:
        yield Step("times", k=pick(factors, key, "factor"))
    divisors = [k for k in range(2, 11) if total % k == 0 and total // k > 1]
    if divisors:
        yield Step("share", k=pick(divisors, key, "divisor"))


def solution(begin: int, steps: Sequence[Step], style: int) -> tuple[str, int]:
    """The worked solution, and what it comes to. Raises ValueError as `Step.work` does."""
    first, joint, then, last = STYLES[style]
    lines, total = [first.format(begin=begin)], begin
    for step in steps:
        context, total = step.context(total)
        lines.append(then.format(work=context))
    return joint.join([*lines, last.format(total=total)]), total


def wrong_solution(of: Problem, style: int, key: str) -> str:
    """A solution with one plausible mistake, in a drawn step, that comes to another answer."""
    for n in range(1000):
        at = f"{key}/{n}"
        where = draw(len(of.steps), at, "where")
        steps = list(of.steps)
        steps[where] = _mistaken(steps[where], at)
        try:
            text, total = solution(of.begin, steps, style)
        except ValueError:
            continue
        if total != of.answer:
            return text
    raise AssertionError(f"no wrong solution of {of.question!r}")


def _mistaken(step: Step, key: str) -> Step:
    """The step with a slip in the sum, or with another operation, as of somebody who misread it."""
    if draw(2, key, "slip"):
        return replace(step, off=pick((-10, -2, -1, 1, 2, 10), key, "off"))
    match step.what:
        case "add":
            return Step("take", b=step.b)
        case "take":
            return Step("add", b=step.b)
        case "groups":  # as long as the right one: the length must not tell
            return replace(step, k=step.k + 1)
        case "times":
            return Step("add", b=step.k)
        case _:
            return Step("take", b=step.k)
