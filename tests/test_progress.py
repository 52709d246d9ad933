"""What a user sees while a run works: the screen of a terminal, as an emulator shows it, and lines elsewhere."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyte
import pytest

from conftest import Finished
from secondnature import progress
from secondnature.progress import Bar, span
from secondnature.sampling import Usage
from secondnature.types import Reply
from secondnature.untrusted import plain

ROWS = 40


@dataclass
class Seen:
    """A command's output on a terminal: its bytes, the frames that the emulator showed, and the last screen with history."""

    raw: bytes = b""
    frames: list[list[str]] = field(default_factory=list[list[str]])
    last: list[str] = field(default_factory=list[str])
    cursor_shown: bool = False


def on_terminal(
    command: list[str], columns: int, *, then: int | None = None, typed: bytes = b"", **environment: str
) -> Seen:
    """Run `command` in a terminal of so many columns; with `then`, it is resized to that many when a bar is on the screen.

    `typed` is the answer to a question.
    """
    ours, theirs = pty.openpty()

    def resize(width: int) -> None:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, width, 0, 0))

    resize(columns)
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**clean, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    screen = pyte.HistoryScreen(columns, ROWS, history=10_000)
    stream, seen, ends = pyte.ByteStream(screen), Seen(), time.monotonic() + 240
    while time.monotonic() < ends:
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        seen.raw += read
        if typed and b"[y/N]" in seen.raw:
            os.write(ours, typed)
            typed = b""
        stream.feed(read)
        frame = [line.rstrip() for line in screen.display]
        seen.frames.append(frame)
        if then is not None and any("━" in line for line in frame):
            resize(then)
            screen.resize(ROWS, then)
            then = None
    process.wait(10)
    os.close(ours)
    history = ["".join(line[i].data for i in range(screen.columns)).rstrip() for line in screen.history.top]
    seen.last = [*history, *(line.rstrip() for line in screen.display)]
    seen.cursor_shown = not screen.cursor.hidden
    return seen


def distill(recipe: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "secondnature", "distill", str(recipe), "--out", str(out), *options]


@pytest.mark.parametrize("columns", [80, 60, 44])
def test_a_terminal_shows_the_stage_its_bar_and_what_came_of_it(
    recipe: Callable[..., Path], tmp_path: Path, columns: int
) -> None:
    seen = on_terminal(distill(recipe(prompts=2000), tmp_path / "run"), columns)
    frames = [f for f in seen.frames if any(re.search(r"━.* [1-9][\d,]*/2,000", line) for line in f)]
    early = [line for frame in frames if any(line.endswith(" 0 s") for line in frame) for line in frame]
    assert not any("tokens/s" in line for line in early), "a rate is not known from the first replies"
    working = next(f for f in frames if any("tokens/s" in line for line in f))
    text = "\n".join(working)
    bar = next(i for i, line in enumerate(working) if line.startswith("▸ sample "))
    assert re.search(r"━+-* [\d,]+/2,000$", working[bar])
    assert re.match(r"  System 2, \d+ s", working[bar + 1])
    assert re.search(r"^  [\d,]+ kept, [\d,]+ discarded \([\d,]+ (low agreement\)|[\w ]*…)$", text, re.M), (
        "cut where it does not fit"
    )
    assert re.search(r"^  early stopping saved [\d,]+ samples, [\d,]", text, re.M)
    assert re.search(r"^  [\d,]+ calls, [\d,]+ tokens/s$", text, re.M)
    assert re.search(r"^  then verify, train, evaluate, report$", text, re.M)
    assert len([line for line in working[bar:] if line]) == 6, "no line is wrapped"
    assert sum(line.startswith("▸") for line in working) == 1, "one view is on the screen"
    ticked = [line.split()[1] for line in seen.last if line.startswith("✓")]
    assert ticked == ["sample", "verify", "train", "evaluate", "report"]
    assert not any(line.startswith(("▸", "  then")) for line in seen.last), "the view is gone without a trace"
    assert any("keep-system1" in line or "inconclusive" in line or "keep-system2" in line for line in seen.last)
    assert seen.cursor_shown


def test_what_stays_says_what_the_report_says(recipe: Callable[..., Path], tmp_path: Path) -> None:
    seen = on_terminal(distill(recipe(prompts=300), tmp_path / "run"), 200)
    curation = json.loads((tmp_path / "run" / "report.json").read_text())["curation"]
    [line] = [line for line in seen.last if line.startswith("✓ sample")]
    [(reason, number), *_] = curation["discarded"].items()
    discarded = sum(curation["discarded"].values())
    undrawn = curation["samples_fixed_n"] - curation["samples"]
    assert f"{curation['kept']} kept, {discarded} discarded ({number} {reason})" in line
    assert f"saved {undrawn:,} samples, {curation['tokens_saved_by_early_stopping']:,} tokens" in line
    assert f"{curation['calls']:,} calls" in line


@pytest.mark.parametrize(("columns", "then"), [(100, 60), (60, 100)])
def test_a_resized_terminal_keeps_nothing_of_the_old_view(
    recipe: Callable[..., Path], tmp_path: Path, columns: int, then: int
) -> None:
    seen = on_terminal(distill(recipe(prompts=600), tmp_path / "run"), columns, then=then)
    assert [line.split()[1] for line in seen.last if line.startswith("✓")][:2] == ["sample", "verify"]
    assert not any("▸" in line or "━" in line or line.startswith("  then") for line in seen.last)
    for frame in seen.frames:
        assert sum(line.startswith("▸") for line in frame) <= 1


def test_a_redraw_never_leaves_the_screen_empty(recipe: Callable[..., Path], tmp_path: Path) -> None:
    seen = on_terminal(distill(recipe(prompts=600), tmp_path / "run"), 80)
    shown = [any(line.startswith("▸ sample") for line in frame) for frame in seen.frames]
    first, last = shown.index(True), len(shown) - 1 - shown[::-1].index(True)
    assert last > first
    assert all(shown[first : last + 1]), "what is erased is drawn again in the same write"


def test_a_failing_stage_is_crossed_out_and_the_cursor_is_back(recipe: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import asyncio\nasync def fails(example, ask):\n    await asyncio.sleep(1)\n    raise ValueError('\\x1b[2Jno')\n"
    )
    file = recipe(technique={"name": "mine.py:fails"})
    seen = on_terminal(distill(file, tmp_path / "run"), 80, typed=b"y\n")
    assert any("this recipe wants to run the Python file" in line for line in seen.last)
    assert any(re.match(r"✗ sample   \d+ s$", line) for line in seen.last)
    assert any("error: the technique failed on" in line for line in seen.last)
    assert b"\x1b[2J" not in seen.raw
    assert seen.cursor_shown


def test_no_means_no_and_is_asked_again(recipe: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    file = recipe(technique={"name": "mine.py:fails"})
    for _ in range(2):
        seen = on_terminal(distill(file, tmp_path / "run"), 80, typed=b"n\n")
        assert b"do you trust it? [y/N]" in seen.raw
        assert any("--trust" in line for line in seen.last)
    assert not (tmp_path / "ran").exists()


def test_a_dumb_terminal_gets_lines_without_escape_codes(recipe: Callable[..., Path], tmp_path: Path) -> None:
    seen = on_terminal(distill(recipe(), tmp_path / "run"), 80, TERM="dumb")
    assert b"\x1b" not in seen.raw
    assert any(line.startswith("sample System 2: 12/12 (") for line in seen.last)


def test_no_color_leaves_colours_out(recipe: Callable[..., Path], tmp_path: Path) -> None:
    coloured = re.compile(rb"\x1b\[([0-9]+;)*(3[0-8]|9[0-7])[;m]")
    file = recipe(prompts=300)
    assert coloured.search(on_terminal(distill(file, tmp_path / "a"), 80).raw)
    plain_one = on_terminal(distill(file, tmp_path / "b"), 80, NO_COLOR="1")
    assert not coloured.search(plain_one.raw)
    assert any(line.startswith("✓ sample") for line in plain_one.last)


def test_a_terminal_without_unicode_gets_ascii(recipe: Callable[..., Path], tmp_path: Path) -> None:
    seen = on_terminal(distill(recipe(prompts=300), tmp_path / "run"), 80, PYTHONIOENCODING="ascii:backslashreplace")
    assert any(line.startswith("* sample") for line in seen.last)
    assert not any("\\u" in line for frame in seen.frames for line in frame if not line.startswith(" "))


def test_elsewhere_there_are_lines_and_no_control_characters(recipe: Callable[..., Path], tmp_path: Path) -> None:
    done = subprocess.run(
        distill(recipe(prompts=40), tmp_path / "run"), capture_output=True, text=True, check=True,
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"},
    )  # fmt: skip
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stderr), "FORCE_COLOR does not make a pipe a terminal"
    sampled = next(line for line in done.stderr.splitlines() if line.startswith("sample System 2: 40/40 ("))
    assert re.search(r"\d+ kept, \d+ discarded .*calls, [\d,]+ tokens/s\), \d+ s$", sampled)
    assert sum(line.startswith("evaluate ") for line in done.stderr.splitlines()) >= 3


def test_quiet_says_nothing_but_the_result(recipe: Callable[..., Path], tmp_path: Path) -> None:
    done = subprocess.run(distill(recipe(), tmp_path / "run", "--quiet"), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.rstrip().endswith("report.html")
    seen = on_terminal(distill(recipe(), tmp_path / "again", "--quiet"), 80)
    assert not any(line.startswith(("✓", "▸", "no dev")) for line in seen.last)


def test_a_name_from_the_recipe_cannot_steer_the_terminal(
    recipe: Callable[..., Path], cli: Callable[..., Finished], tmp_path: Path
) -> None:
    name = "[red]\x1b[31mx\x07\u202ey :smile:"
    file = recipe(evaluate={"latency_prompts": 0, "baselines": {name: {"name": "direct"}}})
    done = cli("distill", file, "--out", tmp_path / "run")
    for text in (done.stdout, done.stderr):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "[red] [31mx  y :smile:" in done.stdout, "and is no markup"


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "a\x9b31mb", "\u202eright to left", "a\rb", "tab\tbed"])
def test_plain_text_has_no_control_characters(text: str) -> None:
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", plain(text))
    assert plain("é 日本 [x] {y}\nz") == "é 日本 [x] {y}\nz"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as a list with one number that a test moves on."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_rate_is_that_of_the_last_while(clock: list[float]) -> None:
    bar = Bar("train", 10_000)
    for second in range(200):
        clock[0] += 1
        bar.advance(tokens=10 * second if second < 100 else 1000 + 100 * (second - 100))
    seconds, steps, tokens = bar.recent
    assert (steps / seconds, tokens / seconds) == pytest.approx((1, 100), rel=0.01)
    clock[0] += 120
    assert 0 < bar.recent[2] / bar.recent[0] < 40, "it falls while nothing comes"
    assert len(bar._seen) < 60  # pyright: ignore[reportPrivateUsage]


def reply(tokens: int) -> Reply:
    return Reply("", "stop", 1, tokens, 0.1)


def test_the_time_left_is_that_of_the_work_not_of_stored_replies(clock: list[float]) -> None:
    drawn = Usage()
    bar = Bar("sample", 1000, drawn)
    clock[0] += 1
    bar.advance(500)  # from the store, at once
    assert bar.left() == ""
    drawn.count(reply(7))
    for _ in range(9):
        clock[0] += 2
        drawn.count(reply(20))
        bar.advance()
    assert bar.left() == "", "too few steps were watched"
    for _ in range(30):
        clock[0] += 2
        drawn.count(reply(20))
        bar.advance()
    assert bar.left() == f", about {span(461 * 60 / 31)} left"  # of the last minute; a call is counted before its step
    assert bar.facts(now=True) == ["40 calls, 10 tokens/s"]
    assert bar.facts(now=False) == [f"40 calls, {787 / 79:,.0f} tokens/s"]
    bar.advance(460)
    assert bar.left() == "", "under five seconds are not worth saying"


def test_the_first_reply_makes_no_rate(clock: list[float]) -> None:
    drawn = Usage()
    bar = Bar("sample", 40, drawn)
    clock[0] += 30  # the first reply takes long
    drawn.count(reply(197))
    assert bar.facts(now=True) == ["1 call"]
    clock[0] += 2
    drawn.count(reply(203))
    assert bar.facts(now=True) == ["2 calls, 200 tokens/s"]


def test_training_says_that_it_begins_and_loading_is_no_part_of_its_rate(clock: list[float], capsys: Any) -> None:
    with progress.Display().stage("train", 0) as bar:
        clock[0] += 60  # loading the model
        bar.begin(10, 30, 5000)
        assert capsys.readouterr().err == "train: 10/30, 1 min 00 s\n"
        for step in range(11, 21):
            clock[0] += 2
            bar.advance(step - bar.done, tokens=500 * step)
        assert bar.facts(now=True) == ["250 tokens/s"]
        assert bar.left() == f", about {span(20)} left"


def test_training_that_goes_on_counts_from_where_it_is(clock: list[float]) -> None:
    bar = Bar("train", 0)
    bar.total = 60
    for step in range(40, 52):
        clock[0] += 3
        bar.advance(step - bar.done, [f"loss {0.5:.3f}"], tokens=1000 * step)
    assert bar.facts(now=True) == ["loss 0.500", "333 tokens/s"]
    assert bar.left() == f", about {span(27)} left"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (3661, "1 h 01 min")]
)
def test_a_span_of_time_reads_well(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_a_line_comes_every_ten_seconds(clock: list[float], capsys: Any) -> None:
    display = progress.Display()
    with display.stage("sample System 2", 40) as bar:
        for _ in range(40):
            clock[0] += 1
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"sample System 2: {n}/40" for n in (10, 20, 30, 40, 40)]
    assert lines[1].endswith("about 20 s left")


def test_the_result_and_notices_are_wrapped_between_words(recipe: Callable[..., Path], tmp_path: Path) -> None:
    baselines = {"ignore_the_opinions": {"name": "direct"}}
    out = tmp_path / ("long" * 15) / "run"
    seen = on_terminal(distill(recipe(prompts=40, evaluate={"baselines": baselines, "latency_prompts": 1}), out), 60)
    screen = "\n".join(seen.last)
    assert re.search(r"n +accuracy \[95%\] +=\s+S2 +unread +tokens$", screen, re.M), "the last columns are left out"
    assert "…" not in screen.partition("✓ report")[2], "and nothing of the others is cut"
    words = " ".join(seen.last).split()
    assert {"self-consistent,", "which", "true"} <= set(words)
    assert str(out / "report.html") in "".join(seen.last)
