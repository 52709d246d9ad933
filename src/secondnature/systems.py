"""The systems that an evaluation compares: what each is called, in JSON, in tables and in sentences.

A new control is a line in `KINDS` and one in `adapters.CONTROLS`, which says what it is trained on.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SystemKind:
    """How a kind of system is called: `caption` in tables, `noun` in sentences; `description` says what it is.

    In a description `{asked}` stands for what the recipe adds to the prompt of System 1.
    """

    caption: str
    noun: str
    description: str


KINDS = {
    "system1": SystemKind("System 1", "System 1", "the prompt{asked}"),
    "system2": SystemKind("System 2", "System 2", "the technique"),
    "distilled": SystemKind("Distilled", "the distilled model", "the prompt{asked}, with the adapter"),
    "system1_voted": SystemKind(
        "System 1, voted",
        "System 1, voted",
        "majority vote over as many System 1 samples as System 2's tokens pay for, prompt tokens included",
    ),
    "baseline": SystemKind("System 1, {name}", "System 1, {name}", "System 1, asked in another way"),
    "control_unfiltered": SystemKind(
        "Control: no filter",
        "the control distilled without the filter",
        "System 2 distilled without the filter",
    ),
    "control_system1_self": SystemKind(
        "Control: System 1 self",
        "the control distilled from System 1's own answers",
        "System 1 distilled from its own filtered answers",
    ),
}
_VOTED, _SEED, _BASELINE, _CONTROL = "_voted_", "distilled_seed_", "baseline_", "control_"


@dataclass(frozen=True, slots=True)
class SystemId:
    """Which system: its kind (a key of `KINDS`), and what tells it from others of that kind.

    `baseline` is a baseline's name in the recipe, `votes` the number of samples of a majority vote, `seed` the training seed
    of a distilled model that was trained again.
    """

    kind: str
    baseline: str = ""
    votes: int | None = None
    seed: int | None = None

    @staticmethod
    def parse(key: str) -> "SystemId":
        """The system whose `key` this is. Raises ValueError where there is none."""
        if key in KINDS and key != "baseline":
            return SystemId(key)
        if key.startswith(_BASELINE):
            return SystemId("baseline", baseline=key.removeprefix(_BASELINE))
        if key.startswith(_SEED) and _is_number(seed := key.removeprefix(_SEED)):
            return SystemId("distilled", seed=int(seed))
        kind, _, votes = key.partition(_VOTED)
        if SystemId(kind) in MAIN and _is_number(votes):
            return SystemId(kind, votes=int(votes))
        raise ValueError(f"{key[:80]!r} is no system")

    @property
    def key(self) -> str:
        """Its name in report.json and run.json, and the name of its adapter's folder where that is not `adapter`."""
        if self.kind == "baseline":
            return _BASELINE + self.baseline
        if self.seed is not None:
            return f"{_SEED}{self.seed}"
        return self.kind if self.votes is None else f"{self.kind}{_VOTED}{self.votes}"

    @property
    def caption(self) -> str:
        """Its name in tables and plots."""
        caption = KINDS[self.kind].caption.replace("{name}", self._baseline)
        if self.seed is not None:
            return f"{caption}, seed {self.seed}"
        return caption if self.votes is None else f"{caption} ({samples(self.votes, 'vote')})"

    @property
    def noun(self) -> str:
        """Its name in a sentence."""
        return KINDS[self.kind].noun.replace("{name}", self._baseline)

    @property
    def description(self) -> str:
        """What it is; `{asked}` stands for what the recipe adds to the prompt of System 1."""
        return KINDS[self.kind].description

    @property
    def css(self) -> str:
        """The CSS classes that colour it: votes have their system's colour, hollow; all but the main systems share one."""
        return "other" if SystemId(self.kind) not in MAIN else self.kind if self.votes is None else f"{self.kind} voted"

    @property
    def is_control(self) -> bool:
        return self.kind.startswith(_CONTROL)

    @property
    def order(self) -> int:
        """Its place in tables."""
        return list(KINDS).index(self.kind) if self.votes is None and self.seed is None else len(KINDS)

    @property
    def _baseline(self) -> str:
        return self.baseline.replace("_", " ")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20 and str(int(text)) == text


def samples(number: int, many: str = "sample") -> str:
    """So many samples, in words."""
    return "1 sample" if number == 1 else f"{number} {many}s"


SYSTEM1, SYSTEM2, DISTILLED = SystemId("system1"), SystemId("system2"), SystemId("distilled")
MATCHED_VOTE = SystemId("system1_voted")
MAIN = (SYSTEM1, SYSTEM2, DISTILLED)
CONTROLS = tuple(SystemId(kind) for kind in KINDS if kind.startswith(_CONTROL))
EXPECTED = (*MAIN, *CONTROLS)  # in report.json even where they were not run: null
