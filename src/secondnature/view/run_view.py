"""A run as the pages show it: read from the store, the curated files and the report whenever it is asked for.

No lock is taken, nothing is written, no model is called, and no code of the run's own is run.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from secondnature import curated
from secondnature.adapters import CONTROLS, current_adapters, damage, is_seed
from secondnature.context import RunContext, run_async
from secondnature.progress import Display
from secondnature.recipe_file import parse_recipe, read_yaml
from secondnature.report import texts
from secondnature.report.model import Report, read_report
from secondnature.report.outcomes import OUTCOMES, outcomes
from secondnature.resolve import Resolved, prepare
from secondnature.run import Run
from secondnature.sampling import MissingCall, Model, System, draw
from secondnature.store import decoding_dict
from secondnature.store_file import REPLY, conversation, is_reply, open_to_read, problem
from secondnature.train import CONFIG, WEIGHTS
from secondnature.types import Message, Row, Sample, UserError
from secondnature.verifier import VoteResult, verify

Item = TypeVar("Item")
PER_PAGE = 50
UNDECIDED, UNANSWERED, KEPT = "not decided yet", "not answered yet", "kept"
SNIPPET = 200  # characters of a prompt in a list


class Prompt(NamedTuple):
    """A training prompt as the lists have it: `outcome` is KEPT, the reason why not, or UNDECIDED."""

    row: int
    outcome: str = UNDECIDED
    answer: str = ""
    votes: str = ""
    agreement: float | None = None
    samples: int | None = None


@dataclass(frozen=True)
class Listed(Generic[Item]):
    """A page of a list: `total` rows fit the filter, these are from `first` (counted from 1) on."""

    rows: Sequence[Item]
    total: int
    page: int

    @property
    def first(self) -> int:
        return (self.page - 1) * PER_PAGE + 1

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PER_PAGE))


def page_of(rows: Sequence[Item], page: int) -> Listed[Item]:
    page = max(1, min(page, -(-len(rows) // PER_PAGE)))
    return Listed(rows[(page - 1) * PER_PAGE : page * PER_PAGE], len(rows), page)


class Answer(NamedTuple):
    """What a system said to a test prompt: the answer's key (None: unparsable), and whether it is the label (None: no label)."""

    sample: Sample
    answer: str | None
    correct: bool | None


class RunView:
    """A run folder. What takes a pass over the data is kept until what it depends on has changed."""

    def __init__(self, folder: Path):
        """Raises UserError where the folder is no run, or its data are not there any more."""
        self.folder = folder
        self._kept: dict[str, tuple[object, Any]] = {}
        self.open()

    def _cached(self, name: str, stamp: object, make: Callable[[], Any]) -> Any:
        if name not in self._kept or self._kept[name][0] != stamp:
            self._kept[name] = stamp, make()
        return self._kept[name][1]

    def open(self) -> None:
        """Read the recipe, the data and the model's identity anew, where they have changed."""
        path = self.folder / "recipe.yaml"
        if not path.exists():
            raise UserError(f"{self.folder} is not a run: it has no recipe.yaml")
        stamp = (_time(path), _time(self.folder / "run.json"), (self.folder / "calls.sqlite").exists())
        self._cached("opened", stamp, lambda: self._open(path))

    def _open(self, path: Path) -> None:
        self.run = run = Run(self.folder, parse_recipe(read_yaml(path), str(path)))
        self.context: RunContext | None = None
        self.model: Model | None = None
        if run.calls.exists():
            self.context = RunContext(run, Display(quiet=True), read_only=True)
            self.resolved: Resolved = self.context.resolved
            identity = run.state.get("model")
            self.model = None if identity is None else Model(self.context.store, identity)
        else:
            self.resolved = prepare(run.recipe)

    @property
    def stamp(self) -> tuple[object, ...]:
        """Another one when anything that a page shows may have changed."""
        run = self.run
        files = (run.recipe_file, run.curation, run.curated, run.report, *adapter_files(run))
        return (None if self.context is None else self.context.store.version(), *map(_time, files))

    # --- training prompts

    @property
    def curation(self) -> curated.Curation | None:
        """The curation that belongs to the recipe and the prompts; None where there is none yet."""
        run = self.run
        stamp = tuple(map(_time, (run.recipe_file, run.folder / "run.json", run.curation, run.curated, run.discarded)))

        def read() -> curated.Curation | None:
            with contextlib.suppress(UserError):
                return None if self.context is None else curated.current(self.context)
            return None

        return self._cached("curation", stamp, read)

    def prompts(self) -> list[Prompt]:
        """Every training prompt, in order."""
        return self._cached("prompts", self.curation, self._read_prompts)

    def _read_prompts(self) -> list[Prompt]:
        found = [Prompt(row) for row in range(len(self.resolved.train))]
        if self.curation is not None:
            for rows in (curated.kept_rows(self.run), curated.discarded_rows(self.run)):
                for row in rows:
                    if row["row"] < len(found):
                        counts = ", ".join(
                            f"{texts.visible(a)[:60]} \N{MULTIPLICATION SIGN} {n}" for a, n in row["votes"].items()
                        )
                        outcome, answer = texts.visible(row.get("reason", KEPT)), texts.visible(row.get("answer", ""))
                        found[row["row"]] = Prompt(row["row"], outcome, answer, counts, row["agreement"], row["n"])
        return found

    def outcomes(self) -> dict[str, int]:
        """How many training prompts came to what."""
        return dict(Counter(prompt.outcome for prompt in self.prompts()).most_common())

    def train_list(self, outcome: str, sought: str, sort: str, page: int) -> Listed[tuple[Prompt, str, str]]:
        """The training prompts with this outcome (all where empty) that have the text in them or in a reply."""
        prompts: Sequence[Prompt] = self.prompts()
        if outcome:
            prompts = [prompt for prompt in prompts if prompt.outcome == outcome]
        if sought:
            rows = self._containing(self.resolved.train, sought)
            prompts = [prompt for prompt in prompts if prompt.row in rows]
        column = sort.removeprefix("-")
        if column in ("outcome", "agreement", "samples"):
            key: Callable[[Prompt], Any] = lambda p: (getattr(p, column) is None, getattr(p, column) or 0)  # noqa: E731
            if column == "outcome":
                key = lambda p: p.outcome  # noqa: E731
            prompts = sorted(prompts, key=key, reverse=sort.startswith("-"))
        listed = page_of(prompts, page)
        shown = [(self._now(p), self.resolved.train[p.row].example) for p in listed.rows]
        rows = [(prompt, example.id, snippet(example.messages)) for prompt, example in shown]
        return Listed(rows, listed.total, listed.page)

    def _now(self, prompt: Prompt) -> Prompt:
        """The prompt with its outcome, where the store decides it already and `verify` has not written it yet."""
        if prompt.outcome != UNDECIDED or self.model is None:
            return prompt
        voted, samples = self.vote(prompt.row)
        if voted is None:
            return prompt._replace(samples=len(samples))
        return prompt._replace(
            outcome=KEPT if voted.outcome.key is not None else texts.visible(voted.outcome.reason or "discarded"),
            answer=texts.visible(voted.outcome.key or ""),
            samples=len(samples),
        )

    def _containing(self, rows: Iterable[Row], sought: str) -> set[int]:
        """The places of the rows that have the text in the prompt or in a reply to it."""
        like = f"%{escaped(sought)}%"
        sql = r"SELECT name FROM names WHERE id IN (SELECT example FROM calls WHERE text LIKE ? ESCAPE '\')"
        with self.reading() as db:
            ids: set[str] = set() if db is None else {name for (name,) in db.execute(sql, (like,))}
        text = sought.casefold()
        return {
            place
            for place, row in enumerate(rows)
            if row.example.id in ids or text in text_of(row.example.messages).casefold()
        }

    def vote(self, row: int) -> tuple[VoteResult | None, Sequence[Sample]]:
        """The vote on a training prompt, None where it is not decided yet, and the samples that are in the store."""
        return run_async(self._vote(self.resolved.train[row]))

    async def _vote(self, row: Row) -> tuple[VoteResult | None, Sequence[Sample]]:
        samples: list[Sample] = []
        if self.model is None:
            return None, samples
        resolved = self.resolved
        try:
            voted = await verify(self.model, resolved.system2, row.example, resolved.verifier)
        except MissingCall:
            for number in range(resolved.verifier.rule.n):
                with contextlib.suppress(MissingCall):
                    samples.append(await draw(self.model, resolved.system2, row.example, number, resolved.kind))
            return None, samples
        return voted, voted.samples

    # --- test prompts

    def systems(self) -> dict[str, System]:
        """The ways in which test prompts are answered, by their names in report.json; with the adapters that belong to the
        recipe and the votes."""
        stamp = (self.curation, *map(_time, adapter_files(self.run)), _time(self.run.recipe_file))
        return self._cached("systems", stamp, self._systems)

    def _systems(self) -> dict[str, System]:
        resolved, adapters = self.resolved, {}
        if self.context is not None and self.curation is not None:
            adapters = current_adapters(self.context, checked=False)
        found = {"system1": resolved.system1, "system2": resolved.system2}
        found |= {
            name: replace(resolved.system1, adapter=adapter.name)
            for name, adapter in adapters.items()
            if not is_seed(name)
        }
        found |= {f"baseline_{name}": system for name, system in resolved.baselines.items()}
        return {name: system.greedy() for name, system in found.items()}

    def answers(self, place: int) -> dict[str, Answer]:
        """What each system said to a test prompt, of those whose calls are all in the store."""
        return run_async(self._answers(self.resolved.held_out[place]))

    async def _answers(self, row: Row) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        key = self.resolved.kind.normalize
        gold = None if row.label is None else key(row.label)
        if self.model is None:
            return found
        for name, system in self.systems().items():
            with contextlib.suppress(MissingCall):
                sample = await draw(self.model, system, row.example, 0, self.resolved.kind)
                answer = None if sample.answer is None else key(sample.answer)
                found[name] = Answer(sample, answer, None if gold is None else answer == gold)
        return found

    def all_answers(self) -> list[dict[str, tuple[str | None, bool | None]]]:
        """What each system answered to each test prompt: (key, whether it is right)."""

        def read() -> list[dict[str, tuple[str | None, bool | None]]]:
            found = (self.answers(place) for place in range(len(self.resolved.held_out)))
            return [{name: (a.answer, a.correct) for name, a in answers.items()} for answers in found]

        return self._cached("answers", self.stamp, read)

    def test_list(
        self, tag: str, cut: str, sought: str, page: int
    ) -> Listed[tuple[int, str, dict[str, Answer], str | None]]:
        """The test prompts of which `tag` can be said, in the slice `cut`, that have the text in them or in a reply."""
        rows = self.resolved.held_out
        places = [i for i, row in enumerate(rows) if not cut or cut in map(texts.visible, row.slices)]
        if tag:
            answers = self.all_answers()
            places = [i for i in places if tag in tags_of(answers[i])]
        if sought:
            containing = self._containing(rows, sought)
            places = [i for i in places if i in containing]
        listed = page_of(places, page)
        shown = [(i, snippet(rows[i].example.messages), self.answers(i), rows[i].label) for i in listed.rows]
        return Listed(shown, listed.total, listed.page)

    # --- calls

    @contextlib.contextmanager
    def reading(self) -> Generator[sqlite3.Connection | None]:
        """A connection of its own to the store: a slow search keeps nobody waiting. None where there is no store yet."""
        path = self.run.calls
        if not path.exists():
            yield None
            return
        with contextlib.closing(open_to_read(path)) as db:
            try:
                yield db
            except (sqlite3.Error, ValueError) as error:
                raise problem(path, error, "read") from error

    def _check(self, replies: Iterable[Sequence[Any]]) -> None:
        if not all(map(is_reply, replies)):
            raise problem(self.run.calls, "a row holds no reply", "read")

    def calls(self, finish: str, sought: str, before: int) -> tuple[list[dict[str, Any]], int | None]:
        """Calls stored before the one numbered `before` (0: all), the newest first; and where the next page begins."""
        where = f"(?3 = 0 OR id < ?3) AND (?4 = '' OR finish = ?4){f' AND {SAYS}' if sought else ''}"
        sql = f"SELECT id, messages, {REPLY} FROM calls WHERE {where} ORDER BY id DESC LIMIT {PER_PAGE + 1}"
        with self.reading() as db:
            if db is None:
                return [], None
            rows = db.execute(sql, (f"%{escaped(sought)}%", sought, before, finish)).fetchall()
            self._check(row[2:] for row in rows)
            names = ("number", "asked", "text", "finish", "prompt_tokens", "completion_tokens")
            listed: list[dict[str, Any]] = [
                dict(zip(names, (row[0], conversation(db, row[1])[-1][1][:4000], row[2][:200], *row[3:6]), strict=True))
                for row in rows[:PER_PAGE]
            ]
        return listed, listed[-1]["number"] if len(rows) > PER_PAGE else None

    def call(self, number: int) -> dict[str, Any] | None:
        """The call with this id in the store."""
        if number >= 2**63:  # more than SQLite counts
            return None
        columns = ("model", "decoding", "example", "system")
        names = ", ".join(f"(SELECT name FROM names WHERE id = {column}) {column}" for column in columns)
        with self.reading() as db:
            if db is None:
                return None
            cursor = db.execute(
                f"SELECT id AS number, key, messages, sample, {names}, {REPLY} FROM calls WHERE id = ?", (number,)
            )
            row = cursor.fetchone()
            if row is None:
                return None
            self._check([row[-6:]])
            found: dict[str, Any] = dict(zip((column[0] for column in cursor.description), row, strict=True))
            return {**found, "messages": conversation(db, found["messages"])}

    def numbers(self, samples: Iterable[Sample], more: Iterable[Any] = ()) -> dict[str, int]:
        """The id in the store of each call of the samples, by its key."""
        keys = [call.key for call in (*(call for sample in samples for call in sample.trace), *more)]
        with self.reading() as db:
            found = {
                k: None if db is None else db.execute("SELECT id FROM calls WHERE key = ?", (k,)).fetchone()
                for k in keys
            }
        return {key: row[0] for key, row in found.items() if row is not None}

    # --- the run as a whole

    def status(self) -> dict[str, Any]:
        """What changes while a run is going, for the pages to ask for again and again."""
        self.open()
        found, run = self.outcomes(), self.run
        prompts, kept = sum(found.values()), found.get(KEPT, 0)
        undecided = found.get(UNDECIDED, 0)
        sampled, tested, calls, read, written = self._progress()
        report = self.report()
        decided, tests = self.curation is not None, len(self.resolved.held_out)
        done = {
            "sample": "done" if decided else f"{min(sampled, prompts):,} of {prompts:,} prompts have replies",
            "verify": "done" if decided else "not yet",
            "train": self._training(),
            "evaluate": "done" if report else f"{min(tested, tests):,} of {tests:,} test prompts have replies",
            "report": "done" if report else "not yet",
        }
        stage = next((f"At: {name}, {text}." for name, text in done.items() if text != "done"), "All stages are done.")
        at = f"{kept:,} of {prompts:,} prompts are kept. " if decided else ""
        return {
            "version": hashlib.sha256(repr(self.stamp).encode()).hexdigest()[:12],
            "changed": round(seconds_since_change(run), 1),
            "figures": {
                "prompts": f"{prompts:,}",
                "at": at + stage,
                "kept": f"{kept:,}",
                "discarded": f"{prompts - kept - undecided:,}",
                "undecided": f"{undecided:,}",
                "calls": f"{calls:,}",
                "prompt_tokens": f"{read:,}",
                "completion_tokens": f"{written:,}",
                **{f"stage_{name}": text for name, text in done.items()},
                "verdict": "none yet" if report is None else report.verdict,
                "reason": "" if report is None else texts.visible(report.reason),
            },
            "seconds": run.state.get("seconds", {}),
            "outcomes": [[outcome, number] for outcome, number in found.items()],
            "prompts": prompts,
        }

    def report(self) -> Report | None:
        """What report.json holds; None where there is none, or it cannot be read."""

        def read() -> Report | None:
            with contextlib.suppress(UserError):
                return read_report(self.run.report)
            return None

        return self._cached("report", _time(self.run.report), read)

    def _progress(self) -> tuple[int, int, int, int, int]:
        """(training prompts and test prompts with replies, calls, tokens read, tokens written)."""

        def read() -> tuple[int, int, int, int, int]:
            with self.reading() as db:
                if db is None:
                    return 0, 0, 0, 0, 0
                system = self.resolved.system2
                made_for = (
                    "SELECT COUNT(DISTINCT example) FROM calls WHERE system = (SELECT id FROM names WHERE name = ?) "
                    "AND decoding = (SELECT id FROM names WHERE name = ?)"
                )
                kinds = ((s.label, json.dumps(decoding_dict(s.decoding))) for s in (system, system.greedy()))
                sampled, tested = (db.execute(made_for, kind).fetchone()[0] for kind in kinds)
                sums = "COUNT(*), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0)"
                return sampled, tested, *db.execute(f"SELECT {sums} FROM calls").fetchone()

        return self._cached("progress", self.stamp, read)

    def _training(self) -> str:
        if "distilled" in self.systems():
            return "done"
        if not (self.run.adapter / "training.json").exists():
            return "not yet"
        if self.curation is None:
            return "there is an adapter; whose it is shows once the votes are written"
        if damage(self.run.adapter) is not None:
            return "the adapter is not what training wrote, so it is not shown"
        return "the adapter was made from other votes or settings, so it is not shown"


# A call whose reply or messages contain the text: the ids of its messages are a list without its brackets.
SAYS = r"""(text LIKE ?1 ESCAPE '\' OR key = ?2 OR EXISTS (SELECT 1 FROM json_each('[' || messages || ']')
WHERE value IN (SELECT id FROM messages WHERE content LIKE ?1 ESCAPE '\')))"""


def escaped(text: str) -> str:
    """A text for LIKE."""
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


def tags_of(said: Mapping[str, tuple[str | None, bool | None]]) -> list[str]:
    """What can be said of the answers to a test prompt, side by side."""
    return [OUTCOMES[name] for name in outcomes(said)] if said else [UNANSWERED]


def text_of(messages: Sequence[Message]) -> str:
    """A prompt as text; a conversation with its roles."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def snippet(messages: Sequence[Message]) -> str:
    text = text_of(messages)
    return text if len(text) <= SNIPPET else text[:SNIPPET] + "…"


def adapter_files(run: Run) -> list[Path]:
    folders = (run.adapter, *(run.folder / name for name in CONTROLS))
    return [folder / name for folder in folders for name in (WEIGHTS, CONFIG, "training.json")]


def seconds_since_change(run: Run) -> float:
    """How long ago anything in the run changed that a stage writes while it works."""
    files = [run.calls, run.folder / "run.json", run.curated, run.report]
    log = run.calls.with_name(run.calls.name + "-wal")
    files += [log] if log.exists() and log.stat().st_size else []  # an empty one is a reader's, maybe our own
    files += (run.folder / "checkpoints").glob("*")
    return max(0.0, time.time() - max(map(_time, files)) / 1e9)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
