"""Which votes are decided and which test prompts are answered: kept up to date in the background.

The store does not say which example a call belongs to: votes are recomputed from it, once each. Undecided prompts are looked at
again when something was stored. All is in a temporary database, which goes to the disk where it grows large.
"""

import hashlib
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from secondnature.consistency import VoteResult, verify
from secondnature.context import run_async
from secondnature.report.outcomes import OUTCOMES, outcomes
from secondnature.report.texts import visible
from secondnature.sampling import MissingCall, System, draw
from secondnature.types import Message, Row, Sample, UserError
from secondnature.view.folder import Opened, adapters_stamp, open_folder, setup_stamp

SCHEMA = """
CREATE TABLE train (place INTEGER PRIMARY KEY, id TEXT, prompt TEXT, digest TEXT, state TEXT, answer TEXT, votes TEXT);
CREATE INDEX train_state ON train (state, place);
CREATE TABLE train_text (place INTEGER PRIMARY KEY, text TEXT);
CREATE TABLE test (place INTEGER PRIMARY KEY, id TEXT, prompt TEXT, digest TEXT, gold TEXT, said TEXT, missing INTEGER);
CREATE TABLE test_text (place INTEGER PRIMARY KEY, text TEXT);
CREATE TABLE test_tag (tag TEXT, place INTEGER, PRIMARY KEY (tag, place)) WITHOUT ROWID;
"""
UNDECIDED = "not decided yet"
SNIPPET = 200  # characters of a prompt in a list
SEARCHED = 20_000  # characters of a prompt and its replies that a search looks at
PATIENCE = 1000  # undecided prompts in a row after which a pass ends while a run is going: samples are drawn in order
WRITE_EVERY = 0.3  # seconds between what the pages see of a pass
REST = 3.0  # times as long as a pass took is rested after it: the run needs the processor too
LOOK = 1.0  # seconds between looks at the folder

Record = dict[str, Any]


class Index:
    """The index of one run folder, and the thread that keeps it up to date. `query` may be called from any thread."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.opened: Opened = open_folder(folder)
        self.version = 0  # another number when anything that a page shows has changed
        self.problem: str | None = None
        self.looking: tuple[int, int] | None = None  # prompts looked at in this pass, of how many
        self.totals: Record = {}
        self.systems: dict[str, System] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"index of {folder}", daemon=True)
        self._load()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def states(self) -> dict[str, int]:
        """Training prompts by outcome: "kept", a reason, or UNDECIDED."""
        return dict(self.query("SELECT state, COUNT(*) FROM train GROUP BY state ORDER BY COUNT(*) DESC"))

    def refresh(self, *, full: bool = True) -> bool:
        """Bring the index up to date; whether anything was found. A pass that is not `full` ends after PATIENCE misses."""
        before = self.version
        opened = self.opened
        if setup_stamp(self.folder, opened.run.calls) != self._stamp:
            opened = open_folder(self.folder)
            self.opened = opened
            self._load()
            full = True
        if opened.model is not None:
            self._count(opened)
            run_async(self._look_at_votes(opened, full))
        # Which adapters belong to the votes is known once all votes are.
        decided = UNDECIDED not in self.states()
        if (stamp := (decided, adapters_stamp(self.folder))) != self._adapters or not self.systems:
            systems = opened.systems(decided)
            self._adapters, self.systems = stamp, systems
            with self._lock:
                self._db.execute("UPDATE test SET missing = 1")
                self.version += 1
        if opened.model is not None:
            run_async(self._look_at_answers(opened))
        return self.version != before

    def _load(self) -> None:
        """Begin anew with the prompts that the recipe names, none of them decided."""
        resolved = self.opened.resolved
        self._stamp = setup_stamp(self.folder, self.opened.run.calls)
        self._adapters: tuple[object, ...] = ()
        db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        db.executescript("PRAGMA journal_mode=OFF; PRAGMA cache_size=-64000;" + SCHEMA)
        db.execute("BEGIN")
        for place, row in enumerate(resolved.train):
            head = (place, visible(row.example.id), *_prompt(row), UNDECIDED)
            db.execute("INSERT INTO train VALUES (?, ?, ?, ?, ?, NULL, NULL)", head)
            db.execute("INSERT INTO train_text VALUES (?, ?)", (place, searched(text_of(row.example.messages))))
        for place, row in enumerate(resolved.held_out):
            gold = None if row.label is None else visible(row.label)
            head = (place, visible(row.example.id), *_prompt(row), gold)
            db.execute("INSERT INTO test VALUES (?, ?, ?, ?, ?, '{}', 1)", head)
            db.execute("INSERT INTO test_text VALUES (?, ?)", (place, searched(text_of(row.example.messages))))
            tags = {(f"slice: {visible(name)}", place) for name in row.slices}
            db.executemany("INSERT INTO test_tag VALUES (?, ?)", sorted(tags))
        db.execute("COMMIT")
        with self._lock:
            self._db, self.systems = db, {}
            self.totals = {"rowid": 0, "calls": 0, "prompt_tokens": 0, "completion_tokens": 0}
            self.version += 1

    def _count(self, opened: Opened) -> None:
        """Add the calls stored since the last look."""
        assert opened.context is not None
        totals = self.totals
        last, calls, prompt, completion = opened.context.store.totals_after(totals["rowid"])
        if calls:
            self.totals = {
                "rowid": last,
                "calls": totals["calls"] + calls,
                "prompt_tokens": totals["prompt_tokens"] + prompt,
                "completion_tokens": totals["completion_tokens"] + completion,
            }
            self.version += 1

    async def _look_at_votes(self, opened: Opened, full: bool) -> None:
        """Decide the undecided training prompts, as far as the store goes."""
        assert opened.model is not None
        train: list[int] = [place for (place,) in self.query("SELECT place FROM train WHERE state = ?", (UNDECIDED,))]
        resolved, misses, found = opened.resolved, 0, list[tuple[int, VoteResult]]()
        written = time.monotonic()
        for done, place in enumerate(train):
            if self._stop.is_set() or (misses > PATIENCE and not full):
                break
            self.looking = done, len(train)
            try:
                row = resolved.train[place]
                found.append((place, await verify(opened.model, resolved.system2, row.example, resolved.verifier)))
                misses = 0
            except MissingCall:
                misses += 1
            if found and time.monotonic() - written > WRITE_EVERY:
                self._write_votes(opened, found)
                found, written = [], time.monotonic()
        self._write_votes(opened, found)
        self.looking = None

    async def _look_at_answers(self, opened: Opened) -> None:
        """Read what each system said to the test prompts that not all have answered, as far as the store goes."""
        test: list[int] = [place for (place,) in self.query("SELECT place FROM test WHERE missing = 1")]
        for done, place in enumerate(test):
            if self._stop.is_set():
                break
            self.looking = done, len(test)
            row = opened.resolved.held_out[place]
            self._write_answers(opened, place, row, await answers_to(opened, self.systems, row))
        self.looking = None

    def _write_votes(self, opened: Opened, found: Iterable[tuple[int, VoteResult]]) -> None:
        key = opened.resolved.kind.normalize
        votes: list[tuple[object, ...]] = []
        texts: list[tuple[object, ...]] = []
        for place, voted in found:
            tally = Counter(s.failure or "" if s.answer is None else key(s.answer) for s in voted.samples)
            line = ", ".join(f"{visible(answer)[:60]} × {number}" for answer, number in tally.most_common(4))  # noqa: RUF001
            state = "kept" if voted.outcome.key is not None else visible(voted.outcome.reason or "discarded")
            votes.append((state, visible(voted.outcome.key or ""), line, place))
            said = "\n".join([text_of(voted.example.messages), *(sample.text for sample in voted.all_samples)])
            texts.append((searched(said), place))
        if votes:
            with self._lock:
                self._db.execute("BEGIN")
                self._db.executemany("UPDATE train SET state = ?, answer = ?, votes = ? WHERE place = ?", votes)
                self._db.executemany("UPDATE train_text SET text = ? WHERE place = ?", texts)
                self._db.execute("COMMIT")
                self.version += 1

    def _write_answers(self, opened: Opened, place: int, row: Row, samples: dict[str, Sample]) -> None:
        said = said_by(opened, row, samples)
        text = json.dumps(said)
        missing = int(len(said) < len(self.systems))
        words = "\n".join([text_of(row.example.messages), *(sample.text for sample in samples.values())])
        with self._lock:
            if self._db.execute("SELECT said FROM test WHERE place = ?", (place,)).fetchone()[0] != text:
                self.version += 1
            self._db.execute("BEGIN")
            self._db.execute("UPDATE test SET said = ?, missing = ? WHERE place = ?", (text, missing, place))
            self._db.execute("UPDATE test_text SET text = ? WHERE place = ?", (searched(words), place))
            self._db.execute("DELETE FROM test_tag WHERE place = ? AND tag NOT LIKE 'slice: %'", (place,))
            self._db.executemany("INSERT INTO test_tag VALUES (?, ?)", [(tag, place) for tag in tags_of(said)])
            self._db.execute("COMMIT")

    def _keep(self) -> None:
        """Look at the folder until told to stop: a full pass first, and one whenever the changes have come to rest."""
        seen: object = None
        first, owed, wait = True, False, 0.0
        while not self._stop.wait(wait):
            began = time.monotonic()
            try:
                context = self.opened.context
                stored = None if context is None else context.store.version()
                now = stored, setup_stamp(self.folder, self.opened.run.calls), adapters_stamp(self.folder)
                changed, seen = now != seen, now
                if changed or owed:
                    full = first or not changed
                    self.refresh(full=full)
                    first, owed = False, not full
                self.problem = None
            except (UserError, OSError, sqlite3.Error) as error:
                self.problem, self.looking, owed = visible(str(error)), None, True
                self.version += 1
            wait = max(LOOK, REST * (time.monotonic() - began))


async def answers_to(opened: Opened, systems: dict[str, System], row: Row) -> dict[str, Sample]:
    """What each system said to a test prompt, of those whose calls are all in the store."""
    found: dict[str, Sample] = {}
    for name, system in systems.items():
        try:
            assert opened.model is not None
            found[name] = await draw(opened.model, system, row.example, 0, opened.resolved.kind)
        except MissingCall:
            continue
    return found


def said_by(opened: Opened, row: Row, samples: dict[str, Sample]) -> dict[str, list[Any]]:
    """Each system's answer to a test prompt (None: unparsable), and whether it is right (None: no label)."""
    key = opened.resolved.kind.normalize
    gold = None if row.label is None else key(row.label)
    said: dict[str, list[Any]] = {}
    for name, sample in samples.items():
        answer = None if sample.answer is None else key(sample.answer)
        said[name] = [None if answer is None else visible(answer), None if gold is None else answer == gold]
    return said


UNANSWERED = "not answered yet"


def tags_of(said: dict[str, list[Any]]) -> list[str]:
    """What can be said of the answers to a test prompt, side by side."""
    return [OUTCOMES[name] for name in outcomes({n: (a, c) for n, (a, c) in said.items()})] if said else [UNANSWERED]


def text_of(messages: Sequence[Message]) -> str:
    """A prompt as text; a conversation with its roles."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def searched(text: str) -> str:
    """A text as a search sees it, and a search as it looks."""
    return visible(text[:SEARCHED]).casefold()


def _prompt(row: Row) -> tuple[str, str]:
    """The beginning of a row's prompt, and the digest that tells it from others."""
    text = visible(text_of(row.example.messages))
    shown = text if len(text) <= SNIPPET else text[:SNIPPET] + "…"
    return shown, hashlib.sha256(text.encode()).hexdigest()[:16]
