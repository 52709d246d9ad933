"""What a page shows: the report, the votes as counts, and some prompts in full."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from secondnature.report.model import Report


@dataclass(frozen=True, slots=True)
class PromptVotes:
    """How one training prompt's samples voted: `leading` votes for its leading answer, of `drawn`, of at most `n`; `lead`
    over the second; `right` where there is a label."""

    leading: int
    drawn: int
    n: int
    kept: bool
    reason: str | None = None
    lead: int = 0
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class ShownSample:
    """One sample: `steps` are its intermediate texts and, last, its final one; `failure` says why `answer` is None."""

    index: int
    steps: Sequence[str]
    answer: str | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class ShownVote:
    """A training prompt with its samples: `outcome` is the answer where it was kept, else the reason why not."""

    id: str
    prompt: str
    outcome: str
    kept: bool
    samples: Sequence[ShownSample] = ()


@dataclass(frozen=True, slots=True)
class SystemAnswer:
    """What a system said to a test prompt: `steps` are what it wrote on the way to the final `text`; `correct` needs a label."""

    text: str
    steps: Sequence[str] = ()
    answer: str | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """A test prompt answered by each system, by the systems' names in report.json."""

    id: str
    prompt: str
    gold: str | None = None
    slices: Sequence[str] = ()
    systems: Mapping[str, SystemAnswer] = field(default_factory=dict[str, SystemAnswer])


@dataclass(frozen=True, slots=True)
class Page:
    """What the page shows, also of a half-finished run.

    `examples` are test prompts before and after, and `chosen` says how they were chosen. `votes` says how many prompts voted in
    which way; the first `nearest` of `curated` are those nearest to the line; `shown_of` and `tested_of` are how many prompts
    `curated` and `tested` were taken from (None: they are all).
    """

    report: Report
    votes: Mapping[PromptVotes, int] = field(default_factory=dict[PromptVotes, int])
    curated: Sequence[ShownVote] = ()
    tested: Sequence[ShownAnswer] = ()
    shown_of: int | None = None
    tested_of: int | None = None
    run: str = "RUN"
    nearest: int = 0
    examples: Sequence[ShownAnswer] = ()
    chosen: str = ""
