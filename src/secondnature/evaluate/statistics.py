"""Intervals and tests over groups: rows of one country, document or user are not independent, groups are.

All but the permutation test rest on one device, a Bayesian bootstrap over groups (Rubin, 1981) with one more group, of the
worst outcome that there can be on the side that is looked at (Gaffke, 2005): the groups' weights are independent exponential
draws. With one row a group and right-or-wrong values that is Clopper and Pearson's exact interval. An ordinary bootstrap
knows only the outcomes that it has seen: where a model fails one prompt in twenty, thirty prompts often show no failure, and
it would vouch for what thirty prompts cannot show. `docs/evaluating.md` has both in simulations.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[Any]
ALPHA = 0.05  # of every test; intervals have 95 %
POWER = 0.8
HALF = 0.5  # of the other system's tokens: what a model that is only as good must not exceed to be worth having
LEAST_TO_BEAT = 6  # groups: with fewer no two-sided permutation test reaches ALPHA
RESAMPLES = 9999
BLOCK = 10_000_000  # random numbers in memory
_Z_ALPHA, _Z_POWER = 1.645, 0.842  # of a one-sided test at ALPHA, and of POWER


def mean_interval(values: Sequence[float], groups: Sequence[str], bounds: Interval = (0.0, 1.0)) -> Interval:
    """A 95% interval of the mean of `values`, one a row and all within `bounds`, over `groups`, which name each row's."""
    sums, counts = _by_group(values, groups)
    low, high = (
        np.quantile(_means(sums, counts, end), q) for end, q in zip(bounds, (ALPHA / 2, 1 - ALPHA / 2), strict=True)
    )
    return float(low), float(high)


def p_at_most(values: Sequence[float], groups: Sequence[str], mean: float, least: float = -1.0) -> float:
    """The one-sided p value against "the true mean is at most `mean`", for values that are never below `least`."""
    return _share(_means(*_by_group(values, groups), least) <= mean)


def p_exchanged(values: Sequence[float], groups: Sequence[str]) -> float:
    """The two-sided p value of a permutation test over groups against "the two systems could as well be exchanged".

    `values` are paired differences, one a row. Whole groups change their sign; all ways are gone through where they are few.
    """
    sums, _ = _by_group(values, groups)
    sums = np.abs(sums[sums != 0])
    observed = abs(sum(values)) - 1e-9
    if 2 ** len(sums) <= RESAMPLES:
        ways = np.array(list(itertools.product((1.0, -1.0), repeat=len(sums))))
        return float(np.mean(np.abs(ways @ sums) >= observed))
    distinct, times = np.unique(sums, return_counts=True)

    def totals(draw: np.random.Generator, rows: int) -> Floats:
        return (2.0 * draw.binomial(times, 0.5, (rows, len(times))) - times) @ distinct

    return _share(np.abs(_resampled(totals, len(distinct))) >= observed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same rows: `value` is the first's mean less the second's, with its 95% interval `ci`.

    `p` is that of the two-sided permutation test of superiority. The others are one-sided: non-inferiority (worse by the
    margin or more is ruled out), inferiority (not worse than the margin is ruled out), and a gain below the margin (better by
    the margin or more is ruled out). `spread` is the standard deviation of the difference between groups.
    """

    value: float
    ci: Interval
    margin: float
    n: int
    groups: int
    p: float
    p_noninferiority: float
    p_below_margin: float
    p_inferiority: float
    spread: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} (95% interval {self.ci[0]:+.3f} to {self.ci[1]:+.3f})"

    @property
    def superior(self) -> bool:
        return self.value > 0 and self.p <= ALPHA

    @property
    def non_inferior(self) -> bool:
        """Worse by the margin or more is ruled out."""
        return self.p_noninferiority <= ALPHA

    @property
    def inferior(self) -> bool:
        """Anything but worse by more than the margin is ruled out."""
        return self.p_inferiority <= ALPHA

    @property
    def below_margin(self) -> bool:
        """Better by the margin or more is ruled out."""
        return self.p_below_margin <= ALPHA

    @property
    def minimum_detectable_difference(self) -> float:
        """How far above "worse by the margin" the truth must be for POWER of such tests to find that it is not so."""
        return (_Z_ALPHA + _Z_POWER) * self.spread / math.sqrt(self.groups) + 1 / (self.groups + 1)


def compare(first: Sequence[float], second: Sequence[float], groups: Sequence[str], margin: float) -> Comparison:
    """Compare two systems by their values in [0, 1], one a row and paired. Raises ValueError where there are no rows."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if not differences:
        raise ValueError("there are no rows to compare")
    opposite = [-d for d in differences]
    sums, counts = _by_group(differences, groups)
    value = float(sums.sum() / counts.sum())
    scatter: Floats = (sums - value * counts) / counts.mean()
    return Comparison(
        value=value,
        ci=mean_interval(differences, groups, (-1.0, 1.0)),
        margin=margin,
        n=len(differences),
        groups=len(sums),
        p=p_exchanged(differences, groups),
        p_noninferiority=p_at_most(differences, groups, -margin),
        p_below_margin=p_at_most(opposite, groups, -margin),
        p_inferiority=p_at_most(opposite, groups, margin),
        spread=float(scatter.std()),
    )


@dataclass(frozen=True, slots=True)
class Saving:
    """What a system generates against another on the same rows: tokens an answer (`mean`, `other`), and their ratio's 95%
    interval `ci`."""

    mean: float
    other: float
    ci: Interval

    @property
    def shown(self) -> bool:
        """Less than half saved is ruled out, at half of ALPHA: it is a second way to `ship`, and both together keep ALPHA."""
        return self.ci[1] < HALF

    def against(self, name: str) -> str:
        """In words, against the system called `name`; for one that generates fewer tokens."""
        least = f" (95% interval: at least {_times(1 / self.ci[1])})" if self.ci[1] < 1 else ""
        fewer = _times(self.other / self.mean)
        return f"{self.mean:.1f} generated tokens an answer instead of {name}'s {self.other:.1f}, {fewer} fewer{least}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"


def compare_tokens(first: Sequence[int], second: Sequence[int], groups: Sequence[str], most: int) -> Saving | None:
    """What the first system generates against the second, tokens one a row and paired; None where one generates none.

    No answer of either is longer than `most` tokens: as long are those of the first in the group that was not seen, in which
    the second generates nothing.
    """
    if not sum(first) or not sum(second):
        return None
    (tops, counts), (bottoms, _) = _by_group(first, groups), _by_group(second, groups)
    most = max(most, *first, *second)
    size = _size(counts)
    low, high = (
        float(np.quantile(_ratios(tops, bottoms, unseen), q))
        for unseen, q in (((0.0, most * size), ALPHA / 2), ((most * size, 0.0), 1 - ALPHA / 2))
    )
    return Saving(sum(first) / len(first), sum(second) / len(second), (low, high))


def groups_needed(margin: float, spread: float = 0.0) -> int | None:
    """How many groups find in POWER of all tests that two equal systems are within `margin`; None for a margin of 0.

    Without `spread`: how many it takes where no row differs at all, below which no outcome can show it.
    """
    if margin <= 0:
        return None
    if spread == 0:
        return math.ceil(math.log(ALPHA) / math.log(1 - margin))
    need = 1
    while (_Z_ALPHA + _Z_POWER) * spread / math.sqrt(need) + 1 / (need + 1) > margin:
        need = math.ceil(need * 1.02) + (need < 50)
    return max(need, groups_needed(margin) or 0)


def _by_group(values: Sequence[float], groups: Sequence[str]) -> tuple[Floats, Floats]:
    """The sum and the number of values of each group."""
    places = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    index = [places[group] for group in groups]
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64))
    return sums, np.bincount(index).astype(np.float64)


def _means(sums: Floats, counts: Floats, worst: float) -> Floats:
    """RESAMPLES means under random weights of the groups, and of one group more in which all rows have the value `worst`.

    That one is as large as the group of a row taken at random.
    """
    size = _size(counts)
    return _ratios(sums, counts, (worst * size, size))


def _size(counts: Floats) -> float:
    """The mean size of the group of a row taken at random."""
    return float((counts**2).sum() / counts.sum())


def _ratios(tops: Floats, bottoms: Floats, unseen: tuple[float, float]) -> Floats:
    """RESAMPLES ratios of the sums of `tops` and `bottoms`, one a group, under random weights of them and of one `unseen`.

    Equal groups are drawn together: the sum of k exponential weights is a gamma variable.
    """
    pairs = np.column_stack([np.append(tops, unseen[0]), np.append(bottoms, unseen[1])])
    distinct, times = np.unique(pairs, axis=0, return_counts=True)

    def ratios(draw: np.random.Generator, rows: int) -> Floats:
        totals = draw.standard_gamma(times, (rows, len(times))) @ distinct
        return totals[:, 0] / totals[:, 1]

    return _resampled(ratios, len(distinct))


def _resampled(draw: Callable[[np.random.Generator, int], Floats], width: int) -> Floats:
    """RESAMPLES draws, the same every time, made of `width` random numbers each and so many at once as memory allows."""
    generator, rows = np.random.default_rng(0), max(1, BLOCK // width)
    blocks = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    return np.concatenate([draw(generator, block) for block in blocks])


def _share(extreme: NDArray[np.bool_]) -> float:
    """A Monte Carlo p value, which is never 0."""
    return (int(extreme.sum()) + 1) / (len(extreme) + 1)
