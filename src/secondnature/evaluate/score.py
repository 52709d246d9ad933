"""Scores of the systems side by side, on the same rows, from their samples alone."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from secondnature.evaluate.statistics import Interval, mean_interval
from secondnature.report.model import Scores, Stability, SystemFigures
from secondnature.types import Row, Sample


@dataclass(frozen=True)
class Answers:
    """What one system answered to each test row: the answer's key (None where unparsable), and its cost."""

    keys: Sequence[str | None]
    completion_tokens: Sequence[int]
    prompt_tokens: Sequence[int]
    latencies: Sequence[float]  # seconds, of the prompts that were timed one at a time
    truncated: Sequence[bool] = ()  # which unparsable answers hit the token limit; empty where that is not known
    votes: int = 1
    description: str = ""

    @staticmethod
    def of(
        samples: Sequence[Sample], key: Callable[[str], str], latencies: Sequence[float], description: str
    ) -> "Answers":
        return Answers(
            [None if s.answer is None else key(s.answer) for s in samples],
            [s.completion_tokens for s in samples],
            [s.prompt_tokens for s in samples],
            latencies,
            [s.failure == "truncated" for s in samples],
            description=description,
        )

    def of_rows(self, places: Sequence[int]) -> "Answers":
        """Those to the rows at `places` alone; the latencies are dropped."""
        return replace(
            self,
            keys=[self.keys[i] for i in places],
            completion_tokens=[self.completion_tokens[i] for i in places],
            prompt_tokens=[self.prompt_tokens[i] for i in places],
            latencies=[],
            truncated=[self.truncated[i] for i in places] if self.truncated else [],
        )

    @property
    def unparsable(self) -> float:
        """The share of answers that have no key."""
        return sum(key is None for key in self.keys) / len(self.keys)


def agreements(first: Sequence[str | None], second: Sequence[str | None]) -> list[float]:
    """1.0 for each row where both gave an answer and it is the same, else 0.0."""
    return [float(a is not None and a == b) for a, b in zip(first, second, strict=True)]


def correct(keys: Sequence[str | None], gold: Sequence[str | None]) -> list[float] | None:
    """1.0 for each row answered rightly; None where a row has no label."""
    return None if any(g is None for g in gold) else agreements(keys, gold)


def describe_system(
    answers: Answers,
    rows: Sequence[Row],
    gold: Sequence[str | None],
    reference: Sequence[str | None] | None,
    headline: str | None,
    prices: tuple[float, float] | None = None,
    *,
    throughput: Mapping[str, float] | None = None,
    stability: Mapping[str, Stability] | None = None,
) -> SystemFigures:
    """The figures of one system: those of the headline slice, and each slice's own. `reference` is System 2's keys, of its
    own system those of its second sample; None where they were not sampled.

    `prices` are those of a million prompt tokens and of a million completion tokens.
    """
    chosen = members(rows, headline)

    def scores(places: Sequence[int]) -> Scores:
        return describe_keys(answers.keys, gold, reference, [rows[i].group for i in places], places)

    seconds = np.array(answers.latencies) * 1000
    completion = _mean([answers.completion_tokens[i] for i in chosen])
    prompt = _mean([answers.prompt_tokens[i] for i in chosen])
    return SystemFigures(
        **scores(chosen).model_dump(),
        tokens_per_answer=completion,
        prompt_tokens_per_answer=prompt,
        cost_per_1000=None if prices is None else round((prompt * prices[0] + completion * prices[1]) / 1000, 6),
        unparsable=_mean([float(answers.keys[i] is None) for i in chosen]),
        truncated=_mean([float(answers.truncated[i]) for i in chosen]) if answers.truncated else None,
        latency_ms_p50=round(float(np.percentile(seconds, 50)), 1) if len(seconds) else None,
        latency_ms_p95=round(float(np.percentile(seconds, 95)), 1) if len(seconds) else None,
        latency_prompts=len(seconds),
        answers_per_second=(throughput or {}).get("answers_per_second"),
        tokens_per_second=(throughput or {}).get("tokens_per_second"),
        same_answer=round(most_frequent([answers.keys[i] for i in chosen])[1], 4),
        votes=answers.votes,
        description=answers.description,
        slices={name: scores(members(rows, name)) for name in slice_names(rows)},
        stability=dict(stability) if stability else None,
    )


def describe_keys(
    keys: Sequence[str | None],
    gold: Sequence[str | None],
    reference: Sequence[str | None] | None,
    groups: Sequence[str],
    chosen: Sequence[int],
) -> Scores:
    """Accuracy and agreement with System 2 (`reference`), with intervals, of the `chosen` rows, whose groups are `groups`."""
    given = [keys[i] for i in chosen]
    right = correct(given, [gold[i] for i in chosen])
    agree = None if reference is None else agreements(given, [reference[i] for i in chosen])
    return Scores(
        n=len(chosen),
        accuracy=None if right is None else _mean(right),
        accuracy_ci=None if right is None else rounded(mean_interval(right, groups)),
        agreement_with_system2=None if agree is None else _mean(agree),
        agreement_ci=None if agree is None else rounded(mean_interval(agree, groups)),
    )


def difference(first: Sequence[float], second: Sequence[float], groups: Sequence[str]) -> tuple[float, Interval]:
    """mean(first) - mean(second), paired by row, with its 95% interval."""
    paired = [a - b for a, b in zip(first, second, strict=True)]
    return _mean(paired), rounded(mean_interval(paired, groups, (-1.0, 1.0)))


def most_frequent(keys: Sequence[str | None]) -> tuple[str | None, float]:
    """The most frequent answer, and its share of all; None and 0 where there is none."""
    counts = Counter(key for key in keys if key is not None)
    [(key, number)] = counts.most_common(1) or [(None, 0)]
    return key, number / len(keys)


def slice_names(rows: Sequence[Row]) -> list[str]:
    return sorted({name for row in rows for name in row.slices})


def members(rows: Sequence[Row], name: str | None) -> list[int]:
    """The places of the rows in a slice; of all rows where `name` is None."""
    return [i for i, row in enumerate(rows) if name is None or name in row.slices]


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def rounded(interval: Interval) -> Interval:
    return round(interval[0], 4), round(interval[1], 4)
