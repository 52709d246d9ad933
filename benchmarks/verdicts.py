"""How often the verdict is wrong: whole runs are simulated whose truth is known, with rows that are alike within groups.

    python benchmarks/verdicts.py            # a table of all worlds; about ten minutes

For each world: of 1,000 runs how many say `ship` where the distilled model is just as much worse than System 2 as the margin
allows, for these rules and for a plain bootstrap over the same groups; and how many do where the two are equal. Then the same
of `ship` for the cost: how many runs say so, or that the accuracy is System 1's, where the distilled model is worse than System 1
by the margin; and how many ship where it is as good and saves just half.
"""

import itertools
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secondnature.evaluate.statistics import ALPHA, compare, compare_tokens, p_at_most, p_exchanged
from secondnature.evaluate.verdict import Distilled, with_labels, without_labels

MARGIN = 0.05
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """How rows come about. In a share `alike` of the groups all rows have the same outcome.

    Of the rows the distilled model loses `lost` against System 2 and wins `won`; System 2 has `right` of them right in all, and
    System 1 `fast`.
    """

    groups: int
    sizes: str
    alike: float
    lost: float
    won: float
    right: float = 0.6
    fast: float = 0.1

    def draw(self, random: np.random.Generator) -> tuple[list[str], Bits, Bits, Bits]:
        """The rows' groups, and where System 1, System 2 and the distilled model are right."""
        group, shared = _grouped(self.groups, self.sizes, self.alike, random)
        draws = np.where(shared, random.random(self.groups)[group], random.random(len(group)))
        slow = draws < self.right
        own = (draws >= self.lost) & (draws < self.right + self.won)
        fast = np.where(shared, random.random(self.groups)[group], random.random(len(group))) < self.fast
        return [str(g) for g in group], fast, slow, own


def _grouped(groups: int, sizes: str, alike: float, random: np.random.Generator) -> tuple[NDArray[np.int_], Bits]:
    """The group of each row, and whether all of its group have the same outcome."""
    counts = {
        "one": np.ones(groups, int),
        "two": np.full(groups, 2),
        "geometric": random.geometric(0.3, groups),
        "heavy": 1 + np.minimum(random.pareto(1.3, groups).astype(int), 39),
    }[sizes]
    group = np.repeat(np.arange(groups), counts)
    return group, (random.random(groups) < alike)[group]


MOST, LENGTH = 128, 40  # tokens of an answer, at most and about on average
SHORT = 3  # tokens of a distilled answer, which now and then runs on to MOST


@dataclass(frozen=True)
class Thrifty:
    """A world in which System 2 lifts nothing: it is right where the distilled model is, which loses `lost` against System 1
    and wins `won`. System 1 generates up to MOST tokens, about LENGTH on average, the distilled model the share `spent` of that.
    """

    groups: int
    sizes: str
    alike: float
    lost: float
    won: float
    spent: float = 0.1
    right: float = 0.6

    def draw(self, random: np.random.Generator) -> tuple[list[str], Bits, Bits, list[int], list[int]]:
        """The rows' groups, where System 1 and the distilled model are right, and what either generates."""
        group, shared = _grouped(self.groups, self.sizes, self.alike, random)

        def uniform() -> NDArray[np.float64]:
            return np.where(shared, random.random(self.groups)[group], random.random(len(group)))

        draws = uniform()
        long = np.minimum(np.ceil(-LENGTH * np.log(uniform())), MOST).astype(int)
        mean = sum(np.exp(-i / LENGTH) for i in range(MOST))
        runs_on = uniform() < (self.spent * mean - SHORT) / (MOST - SHORT)
        short = np.where(runs_on, MOST, SHORT)
        right, own = draws < self.right, (draws >= self.lost) & (draws < self.right + self.won)
        return [str(g) for g in group], right, own, long.tolist(), short.tolist()


def says_cheaper(groups: list[str], fast: Bits, own: Bits, long: list[int], short: list[int]) -> tuple[bool, bool]:
    """Whether a run's verdict is `ship`, and whether it says that the distilled model is as good as System 1."""
    values, same = own.astype(float).tolist(), fast.astype(float).tolist()
    if p_at_most((own.astype(float) - fast).tolist(), groups, -MARGIN) > ALPHA:
        return False, False  # neither can be said: the rest takes time
    to_system1, level, to_nothing = (
        compare(values, other, groups, MARGIN) for other in (same, values, [0.0] * len(same))
    )
    distilled = Distilled(to_system1, level, to_nothing, compare_tokens(short, long, groups, MOST))
    verdict, reason = with_labels(to_system1, distilled)
    return verdict == "ship", verdict == "ship" or "is as good as System 1, within" in reason


def thrifty(world: Thrifty, runs: int) -> tuple[int, int]:
    """How many of so many runs in this world say `ship`, and that the accuracy is System 1's."""
    random = np.random.default_rng(1)
    said = [says_cheaper(*world.draw(random)) for _ in range(runs)]
    return sum(ship for ship, _ in said), sum(same for _, same in said)


def says_ship(groups: list[str], fast: Bits, slow: Bits, own: Bits, *, labels: bool = True) -> bool:
    """Whether the verdict on a run is `ship`; without labels, right is what agrees with System 2, and slow is its ceiling."""
    if (
        p_at_most((own.astype(float) - slow).tolist(), groups, -MARGIN) > ALPHA
        or p_exchanged((slow.astype(float) - fast).tolist(), groups) > ALPHA
    ):
        return False  # one of the tests fails already: the rest takes time
    right = {
        "fast": fast.astype(float).tolist(),
        "slow": slow.astype(float).tolist(),
        "own": own.astype(float).tolist(),
    }
    lift = compare(right["slow"], right["fast"], groups, MARGIN)
    to_system1, to_system2 = (compare(right["own"], right[other], groups, MARGIN) for other in ("fast", "slow"))
    distilled = Distilled(to_system1, to_system2, to_system1, None)
    return (with_labels(lift, distilled) if labels else without_labels(distilled, float(slow.mean())))[0] == "ship"


def plain_bootstrap_ships(groups: list[str], slow: Bits, own: Bits, random: np.random.Generator) -> bool:
    """The usual way: the 5% point of a percentile bootstrap over groups is above minus the margin."""
    index = np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(index, own.astype(float) - slow), np.bincount(index)
    picks = random.integers(0, len(sums), (2000, len(sums)))
    return bool(np.quantile(sums[picks].sum(1) / counts[picks].sum(1), ALPHA) > -MARGIN)


def ships(world: World, runs: int, *, labels: bool = True) -> int:
    """How many of so many runs in this world say `ship`."""
    random = np.random.default_rng(1)
    return sum(says_ship(*world.draw(random), labels=labels) for _ in range(runs))


PLACES = [
    place
    for place in itertools.product(
        (20, 67, 150, 400),
        ("one", "two", "geometric", "heavy"),
        (0.0, 0.5, 1.0),
        ((0.05, 0.0), (0.15, 0.1), (0.3, 0.25)),
    )
    if not (place[1] == "one" and place[2])
]
WORLDS = [World(groups, sizes, alike, lost, won) for groups, sizes, alike, (lost, won) in PLACES]


def main() -> None:
    print("groups sizes      alike lost  won   | at the margin: these rules, plain bootstrap | equal: these rules")
    most = most_plain = 0
    for world in WORLDS:
        random = np.random.default_rng(1)
        drawn = [world.draw(random) for _ in range(1000)]
        wrong = sum(says_ship(*run) for run in drawn)
        plain = sum(plain_bootstrap_ships(groups, slow, own, random) for groups, _, slow, own in drawn)
        equal = World(world.groups, world.sizes, world.alike, world.won or world.lost / 2, world.won or world.lost / 2)
        found = ships(equal, 200)
        most, most_plain = max(most, wrong), max(most_plain, plain)
        print(
            f"{world.groups:6} {world.sizes:10} {world.alike:<5} {world.lost:<5} {world.won:<5} | {wrong:5} {plain:5} | "
            f"{found / 200:6.0%}",
            flush=True,
        )
    print(f"most wrong ships in 1,000: {most} by these rules, {most_plain} by a plain bootstrap")
    print(
        "for the cost: groups sizes alike lost won | worse by the margin: ship, same accuracy | just half saved | equal"
    )
    most_same = most_half = 0
    for groups, sizes, alike, (lost, won) in PLACES:
        same = max(thrifty(Thrifty(groups, sizes, alike, lost, won), 1000))
        even = won or lost / 2
        half, _ = thrifty(Thrifty(groups, sizes, alike, even, even, 0.5), 1000)
        equal, _ = thrifty(Thrifty(groups, sizes, alike, even, even), 200)
        most_same, most_half = max(most_same, same), max(most_half, half)
        print(
            f"{groups:6} {sizes:10} {alike:<5} {lost:<5} {won:<5} | {same:5} | {half:5} | {equal / 200:6.0%}",
            flush=True,
        )
    print(
        f"most in 1,000: {most_same} wrongly say that it is as good as System 1, {most_half} ship where just half is saved"
    )


if __name__ == "__main__":
    sys.exit(main())
