"""Seeded bad input for the command line, in this process: `python tests/fuzz.py --cases 10000 --seed 7`.

A case passes where it ends in time with exit code 0 or 130, or with 2 and one short line on standard error that is an error;
never with a traceback. A case is a function of its seed and number alone, so that one that failed is run again by
`--only NUMBER`. Where torch is installed, models, adapters, checkpoints and exports are damaged too (fuzz_models.py).
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.testing import CliRunner

from secondnature.answers import KINDS, json_object, label
from secondnature.cli import app
from secondnature.techniques import bsm
from secondnature.types import Example, Message
from secondnature.untrusted import LONGEST

SECONDS = 10.0  # of the processor that a case may take
WAITING = 300.0  # that it may take in all, on a machine that does other things too
RECIPE: dict[str, Any] = {
    "model": "fake",
    "data": {"train": "train.jsonl", "dev": "test.jsonl", "test": "test.jsonl", "slices": ["kind"]},
    "answer": {"kind": "yes_no"},
    "technique": {"name": "cot"},
    "sampling": {"n": 3, "temperature": 0.7},
    "evaluate": {"latency_prompts": 1, "regression": False},
    "engine": {"kind": "fake"},
}
# fmt: off
# Keys of a recipe whose values are tried; those that name models, adapters or code of one's own are tried elsewhere.
KEYS = [
    "model", "data", "data.train", "data.test", "data.template", "data.system", "data.prompt", "data.answer", "data.group",
    "data.id", "data.slices", "data.fields", "data.count_from", "answer", "answer.kind", "answer.labels", "answer.fields",
    "technique", "technique.name", "technique.think", "technique.demonstrations", "technique.extract", "system1",
    "system1.instruction", "system1.demonstrations", "sampling", "sampling.n", "sampling.temperature", "sampling.top_p",
    "sampling.max_tokens", "sampling.full_n", "verify", "verify.min_agreement", "verify.min_margin", "verify.weighted",
    "verify.beta", "verify.universal", "verify.choose", "verify.perturb", "evaluate", "evaluate.part", "evaluate.margin",
    "evaluate.headline", "evaluate.baselines", "evaluate.votes", "evaluate.temperature", "evaluate.perturb",
    "evaluate.latency_prompts", "evaluate.regression", "evaluate.lm_eval", "evaluate.contamination", "evaluate.latency_seconds",
    "engine", "engine.kind", "engine.dtype", "engine.concurrency", "engine.timeout", "engine.api_key_env",
    "engine.max_cost", "engine.price_per_million", "store", "limit", "task", "nosuch", "data.nosuch", "engine.nosuch",
]
PATHS = ["store", "data.train", "data.test", "model", "evaluate.regression", "train.base", "evaluate.lm_eval.include_path"]
NAMES = [
    "~nosuchuser/x", "~", "x" * 300, "x/" * 3000, "loop", "dangling", "folder", "train.jsonl", "/dev/null", ".", "..", "", " ",
    "half \udcff", "nul \x00", "\x1b[31m", "a b", "-x", "x.gguf", "org/name", "名前", "calls.sqlite", "C:/x", "a:b", "folder/x",
]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 10**30, -(10**18), 0.5, -0.5, 1e-320, 1e308, 5e-324, "", " ", "x", "yes", "no", "null",
    "/", "../..", "half \\ud800", "\x1b[31mred", "{", "}", "{}", "{prompt}", "{x}", "{prompt.x}", "{prompt[0]}", "{0}",
    "{prompt!r}", "{prompt:>9999999999}", "{{", "%s", "1e5", "1_000", "0x10", "2001-01-01", "1:30", "https://", "http://a b",
    "http://127.0.0.1:1/v1#m", "http://[::1", "test.jsonl", "bad.jsonl", "direct", "s2a", "bsm", "rar", "nosuch",
    [], {}, [None], [1], ["x"], ["x", "x"], [["x"]], {"x": 1}, {"name": "cot"}, {"name": 3}, {"prompt": "p", "answer": "a"},
    [{"prompt": "p", "answer": "a"}], {"path": "x", "split": "train"}, {"tasks": []}, {"kind": "label"}, "a" * 5000, *NAMES,
]
TEXTS = [
    "", " ", "\n", "{", "[", "null", "0", "true", "NaN", '"x"', "[]", "{}", "{'a': 1}", '{"a": NaN}', '{"a": Infinity}',
    '{"a": 1e999}', '{"a": ' + "9" * 5000 + "}", "[" * 3000, '{"a":' * 2000, '"\\ud800"', '{"prompt": "\\ud800"}', "\x00",
    "\ufeff{}", '{"a": 1}{"b": 2}', '{"prompt": 1}', '{"prompt": []}', '{"prompt": [{"role": "user", "content": "x"}]}',
    '{"prompt": ""}', '{"prompt": "x", "prompt": "y"}', '{"id": 1, "prompt": "x", "answer": "yes", "kind": "a"}',
]
YAMLS = [
    "- a", "a: b: c", "? a", "&a a", "*a", "!!int x", "!!python/object:os.system x", "{a: *b}", "&t {a: *t}", "<<: *x", "%",
    "limit: 2001-99-99", "limit: " + "9" * 5000, "limit: 0x" + "f" * 5000, "limit: .nan", "limit: !!set {x}", "a: !!binary x",
    "a: " + "[" * 3000, "- " * 3000, "a: |\n  b\n c", '"\\ud800": x', "a: !!timestamp x", "!!omap [x]", "\t", "a:\tb", "--- a",
    "\x07", "a: 'x", 'a: "\\x"', "a: >-\n", "x" * 2000, "1: 2", "null: x", "[a]: x", "a: " + "b" * 200_000, "# " * 2**20,
    "model: &a [x, x, x]\nstore: &b [*a, *a, *a]\ntask: &t {name: *t}", "limit: !!bool x", "limit: !!float ''",
]
UNITS = [
    "\n", " ", "#", "*", '"', "(", "[[", "{", "}", "\\boxed{", "a", "1", "1,", ".", "-", "**", "answer ", "answer is ", "is ",
    "The answer is: ", "yes ", "no ", "not ", "A ", "B is better ", "tie ", "if ", "#### ", "<a>", "</a>", "\\frac{1}{2}", "^",
    '{"a": 1}', '{"a":', "[1,", "What? ", "é", "\u2028", "\ud800", "\x00", "Lima ", "</think>", "A: 3 ", "1. x\n",
]
# fmt: on


FILES = [
    "async def f(example, ask):\n    BODY\n",
    "def f(example, ask):\n    BODY\n",
    "async def f():\n    BODY\n",
    "BODY\n",
    "f = 1\n",
    "class f:\n    pass\n",
    "async def f(example, ask, extra):\n    BODY\n",
    "import nosuch\n",
    "\udcff",
    "\x00",
    "",
    "async def f(",
    "import sys\nsys.exit()\n",
    "raise BaseException\n",
    "raise KeyError\n",
]
BODIES = [
    "return await ask(example.text)",
    "return 1",
    "return None",
    "return await ask(1)",
    "return await ask([])",
    "return await ask(example)",
    "raise ValueError",
    "raise SystemExit",
    "raise GeneratorExit",
    "import asyncio; raise asyncio.CancelledError",
    "return await f(example, ask)",
    "return await ask('\\ud800')",
    "return '\\ud800\\x00\\x1b[31m'",
    "return example['nosuch']",
    "import asyncio; return str(await asyncio.gather(ask('a'), ask('b'), f(1, 2)))",
    "await ask('x'); return await ask('x')",
    "from secondnature.perturb import Variant; return Variant(example, lambda answer: answer)",
    "from secondnature.perturb import Variant; return Variant(example, lambda answer: 1 / 0)",
    "from secondnature.perturb import Variant; return Variant('x', None)",
    "class E(Exception):\n        def __str__(self): raise E\n    raise E",
    "import asyncio; asyncio.create_task(ask('x')); return 'yes'",
]


class TooLong(BaseException):
    """A case took longer than it may."""


@dataclass
class Case:
    """What one case works with: its own random numbers and a folder that it may spoil."""

    random: random.Random
    folder: Path
    said: list[str] = field(default_factory=list[str])

    def cli(self, *arguments: str | Path, given: bytes = b"") -> None:
        """Run a command, `given` to its standard input, which must end as it should."""
        words = [str(word) for word in arguments]
        self.said.append(" ".join(words))
        done = CliRunner().invoke(app, words, input=given)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code in (0, 2, 130), f"exit code {done.exit_code}: {done.stderr[-300:]!r}"
        assert "Traceback" not in done.stdout + done.stderr, done.stderr[-2000:]
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == (done.exit_code == 2), f"exit code {done.exit_code}: {done.stderr[-300:]!r}"
        for line in errors:
            assert done.stderr.splitlines()[-1] == line, "what is wrong is said last"
            assert len(line) <= LONGEST + 7, f"{len(line)} characters: {line[:200]}"
            assert line.isprintable(), line

    def pick(self, values: Any) -> Any:
        return self.random.choice(values)

    def spoilt(self, content: bytes) -> bytes:
        """Bytes with some of them gone, changed or new."""
        data = bytearray(content)
        for _ in range(self.random.randint(1, 4)):
            at, end = sorted(self.random.randint(0, len(data)) for _ in range(2))
            end = min(end, at + self.random.choice([1, 3, 40, 5000]))
            match self.random.randrange(6):
                case 0:
                    del data[at:]
                case 1:
                    data[at:end] = bytes(end - at)
                case 2:
                    data[at:end] = self.random.randbytes(end - at)
                case 3:
                    data[at:at] = self.pick(TEXTS).encode("utf-8", "surrogatepass")
                case 4:
                    data[at:at] = data[at:end] * 2
                case _:
                    del data[at:end]
        return bytes(data)

    def value(self) -> Any:
        value = self.pick(VALUES)
        return [value, self.pick(VALUES)] if self.random.random() < 0.1 else value


@cache
def rows(number: int) -> str:
    lines = ({"id": f"i{n}", "prompt": f"Is {number} and {n} even?", "answer": "yes" if n % 2 else "no", "kind": "ab"[n % 2]}
        for n in range(number))  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)


def furnish(folder: Path) -> Path:
    """Data, a recipe and odd things to name, in a folder; returns the recipe."""
    (folder / "train.jsonl").write_text(rows(6))
    (folder / "test.jsonl").write_text(rows(3).replace("Is 3", "Was 3"))
    (folder / "bad.jsonl").write_text("{")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder / "recipe.yaml"


def put(recipe: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        below = recipe.setdefault(section, {})
        if not isinstance(below, dict):
            return
        recipe = below
    recipe[name] = value


# --- families of cases


def recipe_keys(case: Case) -> None:
    file = furnish(case.folder)
    recipe = json.loads(json.dumps(RECIPE))
    for _ in range(case.pick([1, 1, 1, 2, 4])):
        put(recipe, case.pick(KEYS), case.value())
    file.write_text(yaml.safe_dump(recipe))
    case.said.append(file.read_text())
    wholly = case.random.random() < 0.15
    case.cli("distill", file, "--out", case.folder / "run", *(["--quiet", "--anyway"] if wholly else ["--dry-run"]))


def paths(case: Case) -> None:
    """Names that lead nowhere, wherever a recipe or a command takes a path."""
    file = furnish(case.folder)
    name = case.pick([*NAMES, f"{case.pick(NAMES)}/{case.pick(NAMES)}"])
    if case.random.random() < 0.7:
        recipe = json.loads(json.dumps(RECIPE))
        put(recipe, case.pick(PATHS), name)
        file.write_text(yaml.safe_dump(recipe))
        name = "run"
    with contextlib.chdir(case.folder):
        match case.pick(["distill", "distill", "sample", "look"]):
            case "sample":
                case.cli("sample", "--quiet", "--recipe", file, "--", name)
            case "look":
                case.cli("look", file, f"--out={name}", "--quiet")
            case _:
                case.cli("distill", file, f"--out={name}", "--dry-run")


def recipe_bytes(case: Case) -> None:
    file = furnish(case.folder)
    text = file.read_bytes()
    if case.random.random() < 0.5:
        text += b"\n" + case.pick(YAMLS).encode()
    file.write_bytes(case.spoilt(text) if case.random.random() < 0.6 else text)
    case.cli("distill", file, "--out", case.folder / "run", "--dry-run")


def set_values(case: Case) -> None:
    value = case.pick([*YAMLS, *TEXTS, *map(str, VALUES)])
    override = f"{case.pick([*KEYS, '', '.', 'a..b', 'model.x'])}{case.pick(['=', '=', '=', '', '=='])}{value}"
    case.cli("distill", furnish(case.folder), "--out", case.folder / "run", "--dry-run", "--set", override)


def data_files(case: Case) -> None:
    file = furnish(case.folder)
    recipe = {**RECIPE, "answer": {"kind": case.pick(["yes_no", "choice", "number", "free_text", "json"])}}
    ending = case.pick(["jsonl", "csv", "tsv", "parquet"])
    content = rows(5).encode()
    if ending in ("csv", "tsv"):
        mark = "," if ending == "csv" else "\t"
        cells = [case.pick([*TEXTS, "x", '"x"', '"', "'"]) for _ in range(6)]
        content = "\n".join([mark.join(["prompt", "answer", "kind"]), mark.join(["Is it?", "yes", "a"]),
            mark.join(cells[:3]), mark.join(cells[3:])]).encode("utf-8", "surrogatepass")  # fmt: skip
    elif ending == "parquet":
        content = parquet_bytes()
    elif case.random.random() < 0.5:
        content += case.pick(TEXTS).encode("utf-8", "surrogatepass")
    else:
        row = {
            "prompt": "Is it?",
            "answer": "yes",
            "kind": "a",
            case.pick(["prompt", "answer", "id", "kind", "group"]): case.value(),
        }
        content += json.dumps(row).encode()
    (case.folder / f"mine.{ending}").write_bytes(case.spoilt(content) if case.random.random() < 0.5 else content)
    recipe["data"] = {"train": f"mine.{ending}", "test": "test.jsonl", case.pick(["prompt", "slices", "template"]): case.pick(
        ["prompt", ["kind"], "{prompt}", "{prompt} {kind}", "a.b.0"])}  # fmt: skip
    file.write_text(yaml.safe_dump(recipe))
    case.cli("distill", file, "--out", case.folder / "run", "--dry-run")


@cache
def parquet_bytes() -> bytes:
    pyarrow = __import__("pyarrow.parquet")
    table = pyarrow.table({"prompt": [f"Is it {n}?" for n in range(5)], "answer": ["yes"] * 5, "kind": list("ababa")})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


# What a word of a command line is taken from; these commands wait for visitors, fetch a model or look at the machine.
WORDS = [
    "--out", "--set", "--limit", "--recipe", "--quiet", "--nosuch", "-q", "--dry-run", "--version", "--help", "--", "-", "a=b",
    "0", "-1", "2", "1e400", "9" * 5000, "recipe.yaml", "recipe.yaml", "run", "run", "x" * 300, "\udcff", "loop", "dangling",
    "folder", "folder/x", "", " ", "~nosuchuser", "\x1b[31m", "train.jsonl", "bad.jsonl", "classifier", "Is it?", "\x00",
    "half \ud800",
]  # fmt: skip
ELSEWHERE = {"view", "serve", "demo", "doctor"}


@cache
def commands() -> dict[str, list[tuple[str, bool]]]:
    """The commands, each with its options and whether one takes no value."""
    group: Any = typer.main.get_command(app)
    return {
        name: [(option, bool(given.is_flag)) for given in command.params for option in given.opts if option[0] == "-"]
        for name, command in group.commands.items()
        if name not in ELSEWHERE
    }


def command_lines(case: Case) -> None:
    """Commands with options of their own and others', in any order, with words that may be values of them."""
    furnish(case.folder)
    shutil.copytree(whole_run() / "run", case.folder / "run")
    given: list[str] = []
    if case.random.random() < 0.9:
        name = case.pick([*commands()])
        given = [
            name,
            *(["run" if case.random.random() < 0.5 else case.pick(WORDS)] if case.random.random() < 0.7 else []),
        ]
        for option, flag in case.random.sample(commands()[name], case.random.randint(0, min(3, len(commands()[name])))):
            given += [option] if flag else [option, case.pick(WORDS)]
    given += [case.pick(WORDS) for _ in range(case.random.choice([0, 0, 0, 1, 2, 5]))]
    with contextlib.chdir(case.folder):
        case.cli(*given, given=case.pick(TEXTS).encode("utf-8", "surrogatepass"))


def asking(case: Case) -> None:
    """`ask`, of a run that is whole or not, with prompts from anywhere, onto files that may be there."""
    folder = case.folder
    furnish(folder)
    shutil.copytree(whole_run() / "run", folder / "run")
    (folder / "prompts.txt").write_bytes(case.spoilt(b"Is it?\nWas it?\n"))
    (folder / "prompts.jsonl").write_bytes(case.spoilt(rows(3).encode()))
    (folder / "there.jsonl").write_bytes(case.spoilt(b'{"id": "a", "prompt": "Is it?", "system": "system1"}\n' * 2))
    if case.random.random() < 0.3:
        file = folder / "run" / case.pick(["recipe.yaml", "run.json", "report.json", "curated.jsonl"])
        file.write_bytes(case.spoilt(file.read_bytes()))
    given = case.pick(TEXTS).encode("utf-8", "surrogatepass")
    prompt = case.pick(["-", "Is it?", "x" * 100_000, *TEXTS[:6], "\x1b[31m", "half \ud800", None, None])
    words = [] if prompt is None else ["--", prompt]
    if prompt is None or case.random.random() < 0.1:
        words = [f"--file={case.pick(['prompts.txt', 'prompts.jsonl', 'test.jsonl', 'bad.jsonl', *NAMES])}", *words]
    if case.random.random() < 0.4:
        words = [
            f"--out={case.pick(['there.jsonl', 'new.jsonl', 'folder', 'loop', 'dangling', 'run', *NAMES])}",
            *words,
        ]
    words = [*case.pick([["--system", "1"], ["--system", "2"], ["--compare"], [], ["--system", "3"]]), *words]
    before = (folder / "there.jsonl").read_bytes()
    with contextlib.chdir(folder):
        case.cli("ask", "run", *words, given=given)
    whole = before[: before.rfind(b"\n") + 1]
    assert (folder / "there.jsonl").read_bytes().startswith(whole), "what was there is lost"


def starting(case: Case) -> None:
    """`init` onto what is there: nothing of it is lost."""
    furnish(case.folder)
    (case.folder / "classifier").mkdir()
    (case.folder / "classifier" / case.pick(["recipe.yaml", "mine.txt", "train.jsonl"])).write_text("mine")
    before = {path: path.read_bytes() for path in case.folder.rglob("*") if path.is_file() and not path.is_symlink()}
    kind = case.pick(["classifier", "judge", "extractor", "qa", "clasifier", "", "\x1b[31m", "x" * 3000])
    out = [f"--out={case.pick([*NAMES, 'classifier', 'classifier/x', 'new'])}"] if case.random.random() < 0.7 else []
    with contextlib.chdir(case.folder):
        case.cli("init", *out, "--", kind)
    assert all(path.read_bytes() == content for path, content in before.items())


@cache
def whole_run() -> Path:
    """A run folder that went through, to be copied and spoilt."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    recipe = furnish(folder)
    done = CliRunner().invoke(app, ["distill", str(recipe), "--out", str(folder / "run"), "--quiet", "--anyway"])
    assert done.exit_code == 0, done.output
    with contextlib.closing(sqlite3.connect(folder / "run" / "calls.sqlite")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


STAGES = ["verify", "report", "sample", "evaluate"]


def run_files(case: Case) -> None:
    shutil.copytree(whole_run() / "run", case.folder / "run")
    run = case.folder / "run"
    name = case.pick(
        ["run.json", "run.json", "recipe.yaml", "report.json", "curated.jsonl", "discarded.jsonl", "calls.sqlite"]
    )
    file = run / name
    content = file.read_bytes()
    file.unlink()
    match case.random.randrange(10):
        case 0:
            pass
        case 1:
            file.mkdir()
        case 2:
            file.symlink_to(case.pick(["loop", name, "/dev/null", "nothing"]))
        case 3 | 4:
            file.write_bytes(case.pick(TEXTS).encode("utf-8", "surrogatepass"))
        case 5 | 6 if name == "run.json":
            state = json.loads(content)
            state[case.pick([*state, "own", "throughput"])] = case.value()
            file.write_text(json.dumps(state))
        case _:
            file.write_bytes(case.spoilt(content))
    case.said.append(name)
    for stage in case.random.sample(STAGES, 2):
        case.cli(stage, run, "--quiet")


def stores(case: Case) -> None:
    shutil.copytree(whole_run() / "run", case.folder / "run")
    run = case.folder / "run"
    store = run / "calls.sqlite"
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(calls)")]
        match case.random.randrange(8):
            case 0:
                db.execute(f"ALTER TABLE calls RENAME COLUMN {case.pick(columns)} TO other")
            case 1 | 2:
                value = case.pick(["'x'", "x'ff'", "NULL", "-1", "1e308", "CAST(x'ff41' AS TEXT)", "''", "'[]'"])
                db.execute(
                    f"UPDATE OR IGNORE calls SET {case.pick(columns)} = COALESCE({value}, 0) WHERE rowid % 3 = 1"
                )
            case 3:
                db.execute(f"PRAGMA {case.pick(['user_version', 'application_id'])} = {case.random.randint(0, 9)}")
            case 4:
                db.execute(case.pick(["DROP TABLE calls", "DELETE FROM calls", "CREATE TABLE other (x)"]))
            case _:
                pass
    log = run / "calls.sqlite-wal"
    if case.random.random() < 0.5:
        store.write_bytes(case.spoilt(store.read_bytes()))
    if case.random.random() < 0.2:
        log.write_bytes(case.random.randbytes(5000))
    for stage in case.random.sample([*STAGES, "salvage"], 2):
        case.cli(stage, run, *(["--quiet"] if stage != "salvage" else []))


def replies(case: Case) -> None:
    """Every reader of answers, on what a model may write: no exception, and at once."""
    text = "".join(case.pick(UNITS) * case.pick([1, 1, 2, 3, 50, 3000]) for _ in range(case.random.randint(1, 12)))
    case.said.append(repr(text[:2000]))
    example = Example(
        "i", (Message("user", case.pick(["Is it 3?", "What is it?", text[:300]])),), {"choices": "A) x\nB) y"}
    )
    kinds = [*KINDS.values(), label(["yes", "not no"]), json_object(["a"])]
    for kind in kinds:
        form = kind.formed(example).form
        assert form is not None
        for answer in (kind.extract(example, text), form.conclusion(text) or None):
            if answer is not None and kind.extract(example, answer) is not None:
                kind.normalize(answer)
    for read in (bsm.criteria_in, bsm.scores_in, bsm.verdict_in):
        read(text)


def own_code(case: Case) -> None:
    """A technique, a baseline or a perturbation of one's own that is wrong in some way, after a yes to it."""
    chance, file = case.random, furnish(case.folder)
    body = chance.choice(BODIES)
    (case.folder / "mine.py").write_text(chance.choice(FILES).replace("BODY", body), "utf-8", "surrogateescape")
    name = chance.choice(
        ["mine.py:f", "mine.py:f", "mine.py:f", "mine.py:g", "mine.py:", "none.py:f", "folder.py:f", "mine.py:f.g"]
    )
    recipe = yaml.safe_load(file.read_text())
    for key in chance.sample(["technique.name", "verify.perturb", "evaluate.perturb", "evaluate.baselines"], 2):
        value: Any = name if key == "technique.name" else {"b": {"name": name}} if "baselines" in key else [name]
        put(recipe, key, value)
    file.write_text(yaml.safe_dump(recipe))
    yes = ["--trust"] if chance.random() < 0.8 else []
    case.cli(chance.choice(["distill", "look"]), file, "--out", case.folder / "run", "--quiet", *yes)
    case.cli(chance.choice(["report", "verify"]), case.folder / "run", "--quiet")


Families = Mapping[Callable[[Case], None], int]
FAMILIES: Families = {
    recipe_keys: 24,
    paths: 10,
    recipe_bytes: 10,
    set_values: 12,
    data_files: 14,
    command_lines: 10,
    asking: 8,
    starting: 3,
    run_files: 8,
    stores: 8,
    replies: 10,
    own_code: 6,
}


# --- running them


@dataclass(frozen=True)
class Failure:
    number: int
    family: str
    kind: str
    what: str
    said: str


@contextlib.contextmanager
def in_time() -> Generator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    clocks = ((signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, WAITING))
    before = [(number, signal.signal(number, stop)) for number, _, _ in clocks]
    for _, clock, seconds in clocks:
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for _, clock, _ in clocks:
            signal.setitimer(clock, 0)
        for number, handler in before:
            signal.signal(number, handler)


def one(seed: int, number: int, families: Families = FAMILIES) -> tuple[str, Failure | None]:
    """Run case `number`; returns its family, and how it failed."""
    chance = random.Random(f"{seed}:{number}")
    family = chance.choices(list(families), list(families.values()))[0]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    case = Case(chance, folder)
    try:
        with in_time():
            family(case)
    except (Exception, TooLong) as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        where = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if "secondnature" in f.filename and "fuzz" not in f.filename
        ]
        place = f"{Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
        kind = f"{type(error).__name__} {place}"
        return family.__name__, Failure(number, family.__name__, kind, str(error)[:500], "\n".join(case.said)[:3000])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return family.__name__, None


def fuzz(
    numbers: Iterable[int], seed: int, families: Families = FAMILIES, tell: Callable[[str], None] = lambda line: None
) -> list[Failure]:
    """Run cases one after the other; returns those that failed."""
    whole_run()
    failures: list[Failure] = []
    counts: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for number in numbers:
        started = time.monotonic()
        family, failure = one(seed, number, families)
        counts[family] += 1
        seconds[family] += time.monotonic() - started
        if failure is not None:
            failures.append(failure)
            tell(f"{failure.number} {failure.family}: {failure.kind}: {failure.what[:200]}")
    tell(", ".join(f"{name} {number} in {seconds[name]:.0f} s" for name, number in counts.items()))
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one case, shown in full")
    parser.add_argument("--family", help="cases of this family alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as own:  # nothing is trusted or cached for good
        os.environ |= {
            "SECONDNATURE_CONFIG": f"{own}/settings",
            "SECONDNATURE_CACHE": f"{own}/cache",
            "HF_HUB_OFFLINE": "1",
        }
        sys.exit(_run(given))


def _run(given: argparse.Namespace) -> bool:
    """Run what the command line asks for; whether a case failed."""
    families, models = FAMILIES, None
    if find_spec("torch") is not None:
        models = __import__("fuzz_models")
        families = {**families, **models.FAMILIES}
    if given.family:
        families = {family: 1 for family in families if family.__name__ == given.family}
    if models is not None and {*families} & {*models.FAMILIES}:
        models.prepare()
    if given.only is not None:
        family, failure = one(given.seed, given.only, families)
        print(f"{family}: {'held' if failure is None else f'{failure.kind}: {failure.what}'}")
        print("" if failure is None else failure.said)
        return failure is not None
    started = time.monotonic()
    failures = fuzz(range(given.cases), given.seed, families, lambda line: print(line, flush=True))
    causes = Counter(failure.kind for failure in failures)
    print(f"{given.cases} cases in {time.monotonic() - started:.0f} s: {len(failures)} failed, of {len(causes)} causes")
    for kind, number in causes.most_common():
        print(f"{number:>6} {kind}")
    shutil.rmtree(whole_run(), ignore_errors=True)
    if models is not None:
        models.remove()
    return bool(failures)


if __name__ == "__main__":
    sys.modules["fuzz"] = sys.modules["__main__"]  # the same families and caches for fuzz_models
    main()
