"""Intervals and tests over groups: against exact ones where there are any, and in simulations whose truth is known."""

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from secondnature.evaluate.score import difference
from secondnature.evaluate.statistics import (
    LEAST_TO_BEAT,
    compare,
    groups_needed,
    mean_interval,
    p_at_most,
    p_exchanged,
)


def alone(values: Sequence[float]) -> list[str]:
    """Each row a group."""
    return [str(i) for i in range(len(values))]


def clustered(draw: random.Random, groups: int, size: int) -> tuple[list[float], list[str]]:
    """Rows right with probability 0.5 on the whole, and nearly always alike within a group."""
    values: list[float] = []
    for _ in range(groups):
        share = draw.choice([0.05, 0.95])
        values += [float(draw.random() < share) for _ in range(size)]
    return values, [f"g{i // size}" for i in range(groups * size)]


@pytest.mark.parametrize(("right", "n"), [(0, 12), (12, 12), (3, 30), (29, 30), (200, 400)])
def test_with_one_row_a_group_it_is_clopper_and_pearsons_exact_interval(right: int, n: int) -> None:
    values = [1.0] * right + [0.0] * (n - right)
    exact = stats.binomtest(right, n).proportion_ci(method="exact")
    assert mean_interval(values, alone(values)) == pytest.approx((exact.low, exact.high), abs=0.006)


def test_the_interval_covers_the_truth_as_often_as_it_says_where_rows_come_in_groups() -> None:
    draw = random.Random(1)
    runs, by_group, by_row = 200, 0, 0
    for _ in range(runs):
        values, groups = clustered(draw, 30, 5)
        low, high = mean_interval(values, groups)
        by_group += low <= 0.5 <= high
        low, high = mean_interval(values, alone(values))
        by_row += low <= 0.5 <= high
    assert by_group / runs >= 0.94
    assert by_row / runs < 0.8, "rows taken as independent would promise too much"


def test_groups_widen_an_interval() -> None:
    values, groups = clustered(random.Random(2), 20, 6)
    by_row, by_group = mean_interval(values, alone(values)), mean_interval(values, groups)
    assert by_group[1] - by_group[0] > 1.4 * (by_row[1] - by_row[0])
    assert by_group[0] < sum(values) / len(values) < by_group[1]


def test_an_interval_is_the_same_every_time_and_does_not_hang_on_the_order_of_the_rows() -> None:
    values, groups = clustered(random.Random(3), 10, 4)
    places = random.Random(0).sample(range(40), 40)
    mixed = mean_interval([values[i] for i in places], [groups[i] for i in places])
    assert mean_interval(values, groups) == mean_interval(values, groups) == mixed


def test_a_large_group_counts_as_one_observation() -> None:
    values, groups = [1.0] * 40 + [0.0] * 40, ["one"] * 40 + alone([0.0] * 40)
    low, high = mean_interval(values, groups)
    assert low < 0.2
    assert high > 0.8


def test_a_difference_is_paired_by_row() -> None:
    draw = random.Random(4)
    first = [float(draw.random() < 0.5) for _ in range(100)]
    second = [1 - value if i % 25 == 0 else value for i, value in enumerate(first)]
    low, high = difference(first, second, alone(first))[1]
    assert -0.1 < low <= 0 <= high < 0.1, "far tighter than two independent means would allow"


def test_a_few_prompts_that_all_come_out_alike_prove_nothing() -> None:
    few = compare([1.0] * 3, [1.0] * 3, ["a", "b", "c"], 0.05)
    assert few.ci[0] < -0.3
    assert few.ci[1] > 0.3
    assert not few.non_inferior
    many = compare([1.0] * 500, [1.0] * 500, alone([1.0] * 500), 0.05)
    assert many.non_inferior


@pytest.mark.parametrize("n", [3, 6, 9, 12])
def test_the_permutation_test_goes_through_all_ways_where_they_are_few(n: int) -> None:
    draw = random.Random(n)
    first, second = ([float(draw.random() < share) for _ in range(n)] for share in (0.8, 0.3))
    groups = [f"g{i // 2}" for i in range(n)]
    differences = [a - b for a, b in zip(first, second, strict=True)]
    sums = [sum(d for d, g in zip(differences, groups, strict=True) if g == group) for group in dict.fromkeys(groups)]
    ways = [
        sum(s * sign for s, sign in zip(sums, signs, strict=True))
        for signs in itertools.product((1, -1), repeat=len(sums))
    ]
    exact = sum(abs(way) >= abs(sum(sums)) for way in ways) / len(ways)
    assert p_exchanged(differences, groups) == pytest.approx(exact)


def test_the_permutation_test_agrees_with_scipys() -> None:
    draw = random.Random(5)
    first = [float(draw.random() < 0.55) for _ in range(120)]
    second = [float(draw.random() < 0.42) for _ in range(120)]
    ours = p_exchanged([a - b for a, b in zip(first, second, strict=True)], alone(first))

    def mean_difference(a: object, b: object, axis: int) -> object:
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    theirs = stats.permutation_test(
        (first, second), mean_difference, permutation_type="samples", vectorized=True, rng=np.random.default_rng(1)
    )
    assert ours == pytest.approx(theirs.pvalue, abs=0.01)


def test_too_few_groups_never_beat() -> None:
    for number, beats in ((LEAST_TO_BEAT - 1, False), (LEAST_TO_BEAT, True)):
        found = compare([1.0] * number, [0.0] * number, alone([0.0] * number), 0.05)
        assert found.superior is beats


def test_what_is_ruled_out() -> None:
    n = 300
    same, worse = [1.0, 0.0] * (n // 2), [0.0] * 90 + [1.0, 0.0] * ((n - 90) // 2)
    close = compare(same, same, alone(same), 0.05)
    assert (close.non_inferior, close.below_margin, close.inferior, close.superior) == (True, True, False, False)
    short = compare(worse, same, alone(same), 0.05)
    assert (short.non_inferior, short.below_margin, short.inferior, short.superior) == (False, True, True, False)
    ahead = compare(same, worse, alone(same), 0.05)
    assert (ahead.non_inferior, ahead.below_margin, ahead.inferior, ahead.superior) == (True, False, False, True)


def test_how_many_groups_it_takes() -> None:
    least = groups_needed(0.05)
    assert least == 59
    for number, shown in ((least - 2, False), (least + 2, True)):  # two more or less: resampling is not exact
        found = compare([1.0] * number, [1.0] * number, alone([0.0] * number), 0.05)
        assert found.non_inferior is shown
    assert groups_needed(0.0) is None


def test_so_many_groups_find_equal_systems_to_be_within_the_margin_four_times_in_five() -> None:
    draw = random.Random(6)
    lost = gained = 0.1
    needed = groups_needed(0.05, (lost + gained) ** 0.5)
    assert needed is not None
    shown = 0
    for _ in range(150):
        differences = draw.choices([-1.0, 1.0, 0.0], [lost, gained, 1 - lost - gained], k=needed)
        shown += p_at_most(differences, alone(differences), -0.05) <= 0.05
    assert 0.7 <= shown / 150 <= 0.9


def test_no_rows_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="no rows"):
        compare([], [], [], 0.05)


def test_tens_of_thousands_of_groups_are_no_burden() -> None:
    draw = random.Random(7)
    values = [draw.choice([0.0, 1.0]) for _ in range(30_000)]
    low, high = mean_interval(values, alone(values))
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 30_000**0.5, rel=0.05)
