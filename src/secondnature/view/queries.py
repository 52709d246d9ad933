"""What the pages show: lists a page at a time from the index, and one vote, one test prompt, one call in full."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from secondnature.adapters import damage
from secondnature.consistency import VoteResult, verify
from secondnature.context import run_async
from secondnature.report.fields import MAIN, kind_of, num, part, system_name
from secondnature.sampling import MissingCall, draw
from secondnature.store_file import is_reply, open_to_read, problem
from secondnature.types import Row, Sample
from secondnature.view.folder import read_json, seconds_since_change
from secondnature.view.index import UNDECIDED, Index, answers_to, said_by, searched

PER_PAGE = 50


@dataclass(frozen=True)
class Listed:
    """A page of a list: `total` rows fit the filter, these are from `first` (counted from 1) on."""

    rows: Sequence[dict[str, Any]]
    total: int
    page: int

    @property
    def first(self) -> int:
        return (self.page - 1) * PER_PAGE + 1

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PER_PAGE))


def train_list(index: Index, state: str, sought: str, page: int) -> Listed:
    """The training prompts in `state` (all where empty) that have the text `sought` in them or in a reply."""
    where, values = _where(("state = ?", state), ("instr(text, ?)", searched(sought)))
    names = ("place", "id", "prompt", "state", "answer", "votes")
    return _listed(index, "train", names, where, values, page)


def test_list(index: Index, tag: str, cut: str, sought: str, page: int) -> Listed:
    """The test prompts of which `tag` can be said, in the slice `cut`, that have the text `sought` in them or in a reply."""
    tagged = "place IN (SELECT place FROM test_tag WHERE tag = ?)"
    where, values = _where((tagged, tag), (tagged, cut and f"slice: {cut}"), ("instr(text, ?)", searched(sought)))
    listed = _listed(index, "test", ("place", "id", "prompt", "gold", "said"), where, values, page)
    for row in listed.rows:
        said = json.loads(row["said"])
        row["said"] = [(system_name(n), kind_of(n), *said[n]) for n in index.systems if n in said]
    return listed


def tags(index: Index) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(what can be said of test prompts, slices), each with the number of prompts."""
    counts = index.query("SELECT tag, COUNT(*) FROM test_tag GROUP BY tag ORDER BY COUNT(*) DESC")
    slices = [(tag.removeprefix("slice: "), n) for tag, n in counts if tag.startswith("slice: ")]
    return [(tag, n) for tag, n in counts if not tag.startswith("slice: ")], slices


def _where(*terms: tuple[str, str]) -> tuple[str, list[str]]:
    used = [(sql, value) for sql, value in terms if value]
    return " AND ".join(["1", *(sql for sql, _ in used)]), [value for _, value in used]


def _listed(index: Index, table: str, names: Sequence[str], where: str, values: list[str], page: int) -> Listed:
    source = f"{table} JOIN {table}_text USING (place)" if "text" in where else table
    total = index.query(f"SELECT COUNT(*) FROM {source} WHERE {where}", values)[0][0]
    page = max(1, min(page, -(-total // PER_PAGE)))
    rows = index.query(
        f"SELECT {', '.join(names)} FROM {source} WHERE {where} ORDER BY place LIMIT ? OFFSET ?",
        [*values, PER_PAGE, (page - 1) * PER_PAGE],
    )
    return Listed([dict(zip(names, row, strict=True)) for row in rows], total, page)


@dataclass(frozen=True)
class Vote:
    """A training prompt with the samples that are in the store; `voted` is None where it is not decided yet."""

    row: Row
    voted: VoteResult | None
    samples: Sequence[Sample]

    @property
    def variants(self) -> Sequence[VoteResult]:
        """The votes on the changed prompts."""
        return () if self.voted is None else self.voted.variants

    @property
    def keys(self) -> list[str]:
        """Of every call that is shown."""
        drawn = [*self.samples, *(sample for variant in self.variants for sample in variant.samples)]
        checks = () if self.voted is None else self.voted.checks
        return [call.key for call in (*(call for sample in drawn for call in sample.trace), *checks)]


def vote(index: Index, place: int) -> Vote | None:
    """The vote on the training prompt at `place`, read from the store anew; None where there is no such prompt."""
    opened = index.opened
    if not 0 <= place < len(opened.resolved.train):
        return None
    row = opened.resolved.train[place]
    return run_async(_vote(index, row))


async def _vote(index: Index, row: Row) -> Vote:
    opened, samples = index.opened, list[Sample]()
    if opened.model is None:
        return Vote(row, None, samples)
    resolved = opened.resolved
    try:
        voted = await verify(opened.model, resolved.system2, row.example, resolved.verifier)
        return Vote(row, voted, voted.samples)
    except MissingCall:
        for number in range(resolved.verifier.rule.n):
            with contextlib.suppress(MissingCall):
                samples.append(await draw(opened.model, resolved.system2, row.example, number, resolved.kind))
    return Vote(row, None, samples)


@dataclass(frozen=True)
class Answered:
    """A test prompt with each system's sample: (its name, its class, the sample, the answer's key, whether it is right)."""

    row: Row
    systems: Sequence[tuple[str, str, Sample, str | None, bool | None]]


def answered(index: Index, place: int) -> Answered | None:
    """What each system said to the test prompt at `place`; None where there is no such prompt."""
    opened = index.opened
    if not 0 <= place < len(opened.resolved.held_out):
        return None
    row = opened.resolved.held_out[place]
    if opened.model is None:
        return Answered(row, [])
    samples = run_async(answers_to(opened, index.systems, row))
    said = said_by(opened, row, samples)
    return Answered(row, [(system_name(n), kind_of(n), s, *said[n]) for n, s in samples.items()])


CALL = (
    "number",
    "key",
    "model",
    "messages",
    "decoding",
    "text",
    "finish",
    "prompt_tokens",
    "completion_tokens",
    "seconds",
)
CALL_COLUMNS = "rowid, " + ", ".join(CALL[1:]) + ", logprob"


def calls(index: Index, finish: str, sought: str, before: int) -> tuple[list[dict[str, Any]], int | None]:
    """Calls that were stored before the one numbered `before` (0: all), the newest first; and where the next page begins."""
    text = sought.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    quoted = json.dumps(text, ensure_ascii=False)[1:-1]
    found = r"(text LIKE ? ESCAPE '\' OR messages LIKE ? ESCAPE '\' OR key = ?)"
    terms: list[tuple[str, list[object]]] = []
    if before:
        terms.append(("rowid < ?", [before]))
    if finish:
        terms.append(("finish = ?", [finish]))
    if sought:
        terms.append((found, [f"%{text}%", f"%{quoted}%", sought]))
    where = " AND ".join(["1", *(sql for sql, _ in terms)])
    rows = _read_calls(
        index,
        f"SELECT rowid, substr(messages, 1, 4000), substr(text, 1, 200), finish, prompt_tokens, completion_tokens "
        f"FROM calls WHERE {where} ORDER BY rowid DESC LIMIT {PER_PAGE + 1}",
        [value for _, values in terms for value in values],
    )
    _check(index, ((*row[2:], 0.0, None) for row in rows))
    names = ("number", "asked", "text", "finish", "prompt_tokens", "completion_tokens")
    listed: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows[:PER_PAGE]]
    for row in listed:
        row["asked"] = _last_turn(row["asked"])
    return listed, listed[-1]["number"] if len(rows) > PER_PAGE else None


def call(index: Index, number: int) -> dict[str, Any] | None:
    """The call in row `number` of the store."""
    if number >= 2**63:  # more than SQLite counts
        return None
    rows = _read_calls(index, f"SELECT {CALL_COLUMNS} FROM calls WHERE rowid = ?", [number])
    if not rows:
        return None
    _check(index, [rows[0][5:]])
    found: dict[str, Any] = dict(zip((*CALL, "logprob"), rows[0], strict=True))
    try:
        found["messages"] = [(str(m["role"]), str(m["content"])) for m in json.loads(found["messages"])]
    except (ValueError, TypeError, KeyError):
        found["messages"] = [("as stored", found["messages"])]
    return found


def _check(index: Index, replies: Iterable[tuple[Any, ...]]) -> None:
    """Raises UserError where a row of the store holds something else than a reply."""
    if not all(map(is_reply, replies)):
        raise problem(index.opened.run.calls, "a row holds no reply", "read")


def numbers(index: Index, keys: Sequence[str]) -> dict[str, int]:
    """The row in the store of each call, by its key."""
    found: dict[str, int] = {}
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        found |= dict(
            _read_calls(index, f"SELECT key, rowid FROM calls WHERE key IN ({', '.join('?' * len(some))})", some)
        )
    return found


def _read_calls(index: Index, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    """Rows of the store, read by a connection of its own: a slow search keeps nobody waiting."""
    path = index.opened.run.calls
    if not path.exists():
        return []
    with contextlib.closing(open_to_read(path)) as db:
        try:
            db.execute("PRAGMA case_sensitive_like = OFF")
            return db.execute(sql, values).fetchall()
        except sqlite3.DataError:  # a text that is too long to search for
            return []
        except sqlite3.Error as error:
            raise problem(path, error, "read") from error


def _last_turn(messages: str) -> str:
    """The last turn of a conversation in JSON, or its beginning where it was cut."""
    try:
        return str(json.loads(messages)[-1]["content"])
    except (ValueError, TypeError, KeyError, IndexError):
        return str(messages)


def figures(index: Index) -> list[tuple[str, float | None, float | None, float | None, float | None, float | None]]:
    """Each system's name and figures as report.json has them: prompts, accuracy, agreement, tokens, latency."""
    systems = part(read_json(index.opened.run.report), "systems")
    names = sorted(systems, key=lambda name: MAIN.index(name) if name in MAIN else len(MAIN))
    found = {system_name(name, part(systems, name)): part(systems, name) for name in names if part(systems, name)}
    return [
        (
            name,
            num(figures, "n"),
            num(figures, "accuracy"),
            num(figures, "agreement_with_system2"),
            num(figures, "tokens_per_answer"),
            num(figures, "latency_ms_p50"),
        )
        for name, figures in found.items()
    ]


def _training(index: Index, decided: bool) -> str:
    """How far training is; an adapter that was made from other votes or settings, or changed since, is not shown."""
    if "distilled" in index.systems:
        return "done"
    if not (index.opened.run.adapter / "training.json").exists():
        return "not yet"
    if not decided:
        return "there is an adapter; whose it is shows once all prompts are decided"
    if damage(index.opened.run.adapter) is not None:
        return "the adapter is not what training wrote, so it is not shown"
    return "the adapter was made from other votes or settings, so it is not shown"


def _stage(done: dict[str, str], stage: str | None) -> str:
    """A sentence on the first stage that is not finished."""
    if stage is None:
        return "All stages are done."
    if stage == "train" and done["report"] == "done" and done["train"] == "not yet":
        return "There is a report, and nothing was trained."
    return f"At: {stage}, {done[stage]}."


def status(index: Index) -> dict[str, Any]:
    """What changes while a run is going, for the pages to ask for again and again."""
    states = index.states()
    prompts = sum(states.values())
    decided = prompts - states.get(UNDECIDED, 0)
    run = index.opened.run
    tests, missing = index.query("SELECT COUNT(*), COALESCE(SUM(missing), 0) FROM test")[0]
    seconds = read_json(run.folder / "run.json").get("seconds", {})
    report = read_json(run.report)
    kept = states.get("kept", 0)
    done = {
        "sample": f"{decided:,} of {prompts:,} prompts decided",
        "verify": "done" if run.curated.exists() else "not yet",
        "train": _training(index, decided == prompts),
        "evaluate": f"{tests - missing:,} of {tests:,} prompts answered by {len(index.systems)} systems",
        "report": "done" if report else "not yet",
    }
    unfinished = {"sample": decided < prompts, **{name: done[name] != "done" for name in ("verify", "train", "report")}}
    unfinished = {**unfinished, "evaluate": bool(missing)}
    stage = next((name for name in done if unfinished[name]), None)
    share = f" ({kept / decided:.0%})" if decided else ""
    at = f"{kept:,} of {decided:,} decided prompts are kept{share}. "
    return {
        "version": index.version,
        "looking": index.looking,
        "problem": index.problem,
        "changed": round(seconds_since_change(run), 1),
        "figures": {
            "prompts": f"{prompts:,}",
            "at": at + _stage(done, stage),
            "kept": f"{kept:,}",
            "discarded": f"{decided - kept:,}",
            "undecided": f"{prompts - decided:,}",
            "calls": f"{index.totals['calls']:,}",
            "prompt_tokens": f"{index.totals['prompt_tokens']:,}",
            "completion_tokens": f"{index.totals['completion_tokens']:,}",
            **{f"stage_{name}": text for name, text in done.items()},
            "verdict": str(report.get("verdict") or "none yet"),
            "reason": str(report.get("reason") or ""),
        },
        "seconds": {str(name): value for name, value in seconds.items() if isinstance(value, int | float)},
        "outcomes": [[state, number] for state, number in states.items()],
        "prompts": prompts,
    }
