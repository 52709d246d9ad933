"""Test prompts that are also in training, by what distinguishes prompts and not by their template; figures without them.

Words and pairs of words that many prompts have in common, as a template's are, count for nothing. Two passes over the
training prompts, which are streamed; only what is in the test prompts stays in memory.
"""

import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

from secondnature.context import RunContext
from secondnature.evaluate.measure import Measured
from secondnature.evaluate.score import describe_keys, members
from secondnature.report.model import Contamination, Flagged, Without
from secondnature.report.model import Overlap as Kind
from secondnature.systems import SystemId
from secondnature.types import Row

SHARE = 0.7  # of what distinguishes a test prompt: as much must be in one training prompt
RUN = 13  # words in a row that are no accident, as is usual since Brown et al. (2020, arXiv 2005.14165); shorter ...
SHORTEST = 8  # ... for a prompt that is itself shorter, which must be there whole; not below this
COMMON_IN_TRAIN, COMMON_IN_TEST = 0.02, 0.2  # the shares of groups from which on words are a template's ...
FEW = 5  # ... where they are more than so many groups
BUCKETS = 1 << 18  # for counting words, however many there are
SNIPPET = 200  # characters of a text in the report

ORDER: tuple[Kind, ...] = ("exact", "n-gram", "near-duplicate")
_WORD = re.compile(r"\w+|[^\w\s.,;:!?'\"()\u2018\u2019\u201c\u201d\u2026]")


@dataclass(frozen=True, slots=True)
class Match:
    """The training prompt `source`, whose text is `other`, that a test prompt is also in."""

    kind: Kind
    source: str
    score: float
    other: str

    def beats(self, other: "Match | None") -> bool:
        """Whether it says more: a surer kind, or the same with a higher score."""
        return other is None or (ORDER.index(self.kind), -self.score) < (ORDER.index(other.kind), -other.score)


def text_of(row: Row) -> str:
    """All turns but the system's, which a whole data set may share."""
    return "\n".join(message.content for message in row.example.messages if message.role != "system")


def words_of(text: str) -> list[str]:
    """The words without case and ordinary punctuation; signs such as + and - are words."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(words: Sequence[str]) -> set[str]:
    """The words, and the pairs of words in a row."""
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}


@dataclass(frozen=True)
class Template:
    """What distinguishes no prompt from the others: `common` shingles of the test prompts, and how many training rows each
    word is in, by a digest of the word."""

    common: set[str]
    rows: "array[int]"
    most: float

    @staticmethod
    def of(test: Sequence[Row], train: Iterable[Row]) -> "Template":
        """Common is what many groups have: of the training rows, or of the test rows."""
        within: dict[str, set[str]] = defaultdict(set)
        for row in test:
            for shingle in shingles(words_of(text_of(row))):
                within[shingle].add(row.group)
        seen: dict[str, set[int]] = {shingle: set() for shingle in within}
        counts, total, groups = array("I", [0]) * BUCKETS, 0, set[int]()
        for total, row in enumerate(train, 1):  # noqa: B007 - counted
            words, group = words_of(text_of(row)), hash(row.group)
            groups.add(group)
            for word in set(words):
                counts[_bucket(word)] += 1
            for shingle in shingles(words) & seen.keys():
                seen[shingle].add(group)
        most_train = max(FEW, COMMON_IN_TRAIN * len(groups))
        most_test = max(FEW, COMMON_IN_TEST * len({row.group for row in test}))
        common = {s for s, where in within.items() if len(where) > most_test or len(seen[s]) > most_train}
        return Template(common, counts, max(FEW, COMMON_IN_TRAIN * total))

    def is_rare(self, word: str) -> bool:
        """Whether a training prompt's word is in few training rows."""
        return self.rows[_bucket(word)] <= self.most


def _bucket(word: str) -> int:
    return crc32(word.encode()) % BUCKETS


def overlaps(test: Sequence[Row], train: Iterable[Row]) -> dict[int, Match]:
    """The test prompts, by their place, that a training prompt holds; `train` is gone through twice.

    "exact": the same words. "n-gram": runs of RUN words (all words of a shorter prompt) that are in one training prompt
    too hold SHARE of the test prompt's distinctive words. "near-duplicate": the distinctive shingles of the two are alike,
    by Jaccard similarity, to SHARE or more.
    """
    texts = [words_of(text_of(row)) for row in test]
    template = Template.of(test, train)
    whole: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, words in enumerate(texts):
        whole[tuple(words)].append(i)
    runs = _Runs(texts, template.common)
    near = _Near(texts, template)
    best: dict[int, Match] = {}
    for row in train:
        text = text_of(row)
        words = words_of(text)
        found: list[tuple[int, Kind, float]] = [(i, "exact", 1.0) for i in whole.get(tuple(words), ())]
        if known := near.known(words):
            found += [*runs.of(words), *near.of(words, known)]
        for i, kind, score in found:
            match = Match(kind, row.example.id, score, text)
            if match.beats(best.get(i)):
                best[i] = match
    return best


class _Runs:
    """Where the runs of words of the test prompts are."""

    def __init__(self, texts: Sequence[Sequence[str]], common: set[str]):
        self.telling = [{k for k, word in enumerate(words) if word not in common} for words in texts]
        self.places: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for i, words in enumerate(texts):
            length = min(RUN, len(words))
            if length < SHORTEST or not self.telling[i]:
                continue
            places = self.places.setdefault(length, defaultdict(list))
            for run, start in _runs(words, length):
                places[run].append((i, start))

    def of(self, words: Sequence[str]) -> list[tuple[int, Kind, float]]:
        """The test prompts that share runs with a training prompt, and the share of their distinctive words in them."""
        covered: dict[int, set[int]] = defaultdict(set)
        for length, places in self.places.items():
            for run, _ in _runs(words, length):
                for i, start in places.get(run, ()):
                    covered[i].update(range(start, start + length))
        scores = {i: len(self.telling[i] & places) / len(self.telling[i]) for i, places in covered.items()}
        return [(i, "n-gram", score) for i, score in scores.items() if score >= SHARE]


def _runs(words: Sequence[str], length: int) -> Iterable[tuple[str, int]]:
    return ((" ".join(words[k : k + length]), k) for k in range(len(words) - length + 1))


class _Near:
    """An inverted index of the test prompts' distinctive shingles: which test prompts share how many with a training prompt."""

    def __init__(self, texts: Sequence[Sequence[str]], template: Template):
        self.sizes: dict[int, int] = {}
        self.places: dict[str, list[int]] = defaultdict(list)
        for i, words in enumerate(texts):
            telling = shingles(words) - template.common
            self.sizes[i] = len(telling)
            for shingle in telling:
                self.places[shingle].append(i)
        self.template = template
        self.everyday = set[str]().union(*texts)

    def known(self, words: Sequence[str]) -> set[str]:
        """What distinguishes some test prompt and is in a training prompt."""
        return shingles(words) & self.places.keys()

    def of(self, words: Sequence[str], known: set[str]) -> list[tuple[int, Kind, float]]:
        """The test prompts like a training prompt; a word that is in no test prompt sets it apart where it is rare."""
        shared = Counter(i for shingle in known for i in self.places[shingle])
        likely = [(i, number) for i, number in shared.items() if number >= SHARE * self.sizes[i]]
        if not likely:
            return []
        other = {word for word in words if word not in self.everyday and self.template.is_rare(word)}
        scores = [(i, number / (len(known) + self.sizes[i] - number + len(other))) for i, number in likely]
        return [(i, "near-duplicate", score) for i, score in scores if score >= SHARE]


def contamination_report(context: RunContext, measured: Measured) -> Contamination | None:
    """The report's part on test prompts of the headline that are in training; None where nothing was looked for."""
    options, rows = context.run.recipe.evaluate, measured.rows
    chosen = members(rows, options.headline)
    if not chosen or not options.contamination:
        return None
    found = overlaps([rows[i] for i in chosen], context.resolved.train)
    matches: dict[int, Match] = {chosen[k]: match for k, match in found.items()}
    kinds = Counter(match.kind for match in matches.values())
    return Contamination(
        n=len(chosen),
        flagged=len(matches),
        kinds={kind: kinds[kind] for kind in ORDER},
        rows=[
            Flagged(
                id=rows[i].example.id,
                kind=match.kind,
                train_id=match.source,
                score=round(match.score, 3),
                text=text_of(rows[i])[:SNIPPET],
                train_text=match.other[:SNIPPET],
            )
            for i, match in sorted(matches.items())
        ],
        without=_without(context, measured, [i for i in chosen if i not in matches]),
    )


def _without(context: RunContext, measured: Measured, kept: Sequence[int]) -> Without:
    """Each system's figures on the rows that are left."""
    key, rows = context.resolved.kind.normalize, measured.rows
    gold = [None if row.label is None else key(row.label) for row in rows]
    groups = [rows[i].group for i in kept]
    systems = {
        SystemId.parse(name): describe_keys(answers.keys, gold, measured.reference(name), groups, kept)
        for name, answers in (measured.answers.items() if kept else ())
    }
    return Without(n=len(kept), systems=systems)
