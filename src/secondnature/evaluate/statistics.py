# pyright: basic
# (scipy is not typed)
"""Intervals that resample groups, not rows: rows of one country, document or user are not independent."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

Interval = tuple[float, float]
RESAMPLES = 2000
Z = 1.96  # of a 95% interval


def mean_interval(values: Sequence[float], groups: Sequence[str]) -> Interval:
    """A 95% interval of the mean of `values` (one a row), by a cluster bootstrap over `groups` (percentiles).

    Where all groups have the same mean, resampling cannot see any spread: then Wilson's interval with as many
    observations as groups is given for values in [0, 1].
    """
    sums, counts = _by_group(values, groups)
    means = sums / counts
    if np.ptp(means) == 0:
        if 0 <= means[0] <= 1:
            test = stats.binomtest(round(float(means[0]) * len(means)), len(means))
            interval = test.proportion_ci(method="wilson")
            return float(interval.low), float(interval.high)
        return float(means[0]), float(means[0])
    return _bootstrap(sums, counts)


def difference_interval(first: Sequence[float], second: Sequence[float], groups: Sequence[str]) -> Interval:
    """A 95% interval of mean(first) - mean(second), paired by row, by a cluster bootstrap over `groups`.

    For values in [0, 1]. Where all groups differ alike, resampling cannot see any spread: then the end points are those
    of a Wilson-like interval with as many observations as groups, so that a few prompts are never proof.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    sums, counts = _by_group(differences, groups)
    if np.ptp(sums / counts) == 0:
        shared = float(sums[0] / counts[0])
        weight = Z**2 / (len(counts) + Z**2)
        return shared - weight * (1 + shared), shared + weight * (1 - shared)
    return _bootstrap(sums, counts)


def _by_group(values: Sequence[float], groups: Sequence[str]) -> tuple[Any, Any]:
    index = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    places = [index[group] for group in groups]
    return np.bincount(places, weights=np.asarray(values, dtype=float)), np.bincount(places)


def _bootstrap(sums: Any, counts: Any) -> Interval:
    def ratio(s: Any, c: Any, axis: int = -1) -> Any:
        return s.sum(axis=axis) / c.sum(axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of degenerate resamples, which two groups can give
        result = stats.bootstrap(
            (sums, counts),
            ratio,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=200,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
