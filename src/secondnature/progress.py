"""What a run shows while it works: a live view on a terminal, plain lines elsewhere."""

import sys
import textwrap
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from secondnature.sampling import Usage
from secondnature.untrusted import plain

STEPS = ("sample", "verify", "train", "evaluate", "report")
EVERY = 10.0  # seconds between lines where there is no terminal
PER_SECOND = 4  # how often the live view is drawn
WIDTH = 60  # of the live view at most: a line that fits a narrow window is not wrapped when the window becomes one
BAR = 20  # columns
TABLE = 84  # columns of the whole table of results
SPEED, PACE = 20.0, 60.0  # the seconds over which tokens per second, and what is left, are reckoned
WATCHED = 1.0  # seconds: before them the tokens of the first reply would make a rate that nothing reaches
SURE, STEADY = 0.1, 10  # the time left is worth saying after this share, or so many steps, were watched
SOON = 5.0  # seconds: before them nothing is known of the time left, and less of it is not worth saying


@dataclass
class Rate:
    """How fast a count grows, over the last `window` seconds; at least since the last time that it grew."""

    window: float
    count: int = 0
    _seen: deque[tuple[float, int]] = field(default_factory=lambda: deque([(time.monotonic(), 0)]))

    def restart(self, count: int) -> None:
        """Forget what was before: it went at another rate."""
        self.count = count
        self._seen = deque([(time.monotonic(), count)])

    def see(self, count: int) -> None:
        now, self.count = time.monotonic(), count
        if now - self._seen[-1][0] >= self.window / 50:  # few entries, however fast it goes
            self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self.window:
            self._seen.popleft()

    @property
    def watched(self) -> tuple[float, int]:
        """Over how many seconds, and how much it grew."""
        then, count = self._seen[0]
        return max(time.monotonic() - then, 1e-3), self.count - count

    @property
    def per_second(self) -> float:
        seconds, grown = self.watched
        return grown / seconds


@dataclass
class Bar:
    """How far something is. `drawn` counts its calls; lines go to `console`, where there is one."""

    name: str
    total: int
    drawn: Usage | None = None
    console: Console | None = None
    done: int = 0
    notes: Sequence[str] = ()
    started: float = field(default_factory=lambda: time.monotonic())
    _speed: Rate = field(default_factory=lambda: Rate(SPEED))
    _pace: Rate = field(default_factory=lambda: Rate(PACE))
    _began: bool = False

    def __post_init__(self) -> None:
        self._last_line = self.started
        self._origin = self.started, 0  # from where the tokens per second of all the time are reckoned
        self._before = (0, 0)
        self._end: tuple[int, int] | None = None
        if self.drawn is not None:
            self._before = self.drawn.calls, self.drawn.completion_tokens
            self.drawn.on_call = self._count

    def advance(self, steps: int = 1, notes: Sequence[str] | None = None, tokens: int | None = None) -> None:
        """Count `steps` more done; `notes` say what came of them, `tokens` how many there were in all."""
        self.done += steps
        self.notes = self.notes if notes is None else notes
        if self.drawn is None:
            self._begin(tokens or 0)
        if tokens is not None:
            self._speed.see(tokens)
        self._pace.see(self.done)
        self._show()

    def _count(self) -> None:
        self._begin(0)
        self._speed.see(self.tokens)
        self._show()

    def begin(self, done: int, total: int, tokens: int) -> None:
        """The work itself begins, at step `done`: what came before, such as loading a model, is no part of it."""
        self.done, self.total = done, total
        self._begin(tokens)
        self.line(now=True)

    def _begin(self, tokens: int) -> None:
        """What was there before the first work is no measure of the rate: stored replies, a checkpoint's steps."""
        if not self._began:
            self._began = True
            self._pace.restart(self.done)
            self._speed.restart(tokens)
            if self.drawn is None:
                self._origin = time.monotonic(), tokens  # loading the model is no training

    @property
    def calls(self) -> int:
        return 0 if self.drawn is None else (self._end or self._counted)[0] - self._before[0]

    @property
    def tokens(self) -> int:
        return self._speed.count if self.drawn is None else (self._end or self._counted)[1] - self._before[1]

    @property
    def _counted(self) -> tuple[int, int]:
        """The calls drawn by the process so far, and their tokens."""
        return (0, 0) if self.drawn is None else (self.drawn.calls, self.drawn.completion_tokens)

    def end(self) -> None:
        """Count no more: what is drawn from now on belongs to other bars."""
        self._end = self._counted

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def facts(self, *, now: bool) -> list[str]:
        """What came of it so far, with the tokens per second of late (`now`) or of all the time."""
        since, before = self._origin
        all_time = (self.tokens - before) / max(time.monotonic() - since, 1e-3)
        speed = self._speed.per_second if now else all_time
        known = speed > 0 and not (now and self._speed.watched[0] < WATCHED)
        drawn = [
            *([f"{self.calls:,} call{'s' if self.calls > 1 else ''}"] if self.calls else []),
            *([f"{speed:,.0f} tokens/s"] if known and (self.calls or self.drawn is None) else []),
        ]
        return [*self.notes, *([", ".join(drawn)] if drawn else [])]

    def left(self) -> str:
        """The time left at the rate of the last while, where that is known well enough and worth saying."""
        seconds, steps = self._pace.watched
        if not self._began or seconds < SOON or steps < max(1, min(STEADY, SURE * self.total)):
            return ""
        left = (self.total - self.done) * seconds / steps
        return f", about {span(left)} left" if left >= SOON else ""

    def _show(self) -> None:
        if self.console is not None and time.monotonic() - self._last_line >= EVERY:
            self._last_line = time.monotonic()
            self.line(now=True)

    def line(self, *, now: bool) -> None:
        if self.console is not None:
            facts = f" ({', '.join(said)})" if (said := self.facts(now=now)) else ""
            line = f"{self.name}: {self.done}/{self.total}{facts}, {span(self.elapsed)}{self.left()}"
            self.console.print(plain(line), markup=False)


class Display:
    """Where a run's progress and notices go: standard error; its result goes to standard output.

    `steps` are the stages that the run goes through.
    """

    def __init__(self, *, quiet: bool = False, steps: Sequence[str] = ()):
        self.console = Console(stderr=True, quiet=quiet, highlight=False, emoji=False, soft_wrap=True)
        self.steps = steps
        # rich takes a pipe for a terminal where FORCE_COLOR says so; a log file has no use for a live view
        self._on_terminal = self.console.is_terminal and sys.stderr.isatty() and not self.console.is_dumb_terminal
        self._step = ""
        self._started = 0.0
        self._bars: list[Bar] = []
        self._latest: Bar | None = None

    def result(self, table: Table, line: str) -> None:
        """What a run comes to, on standard output."""
        wide = None if sys.stdout.isatty() else 100
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=wide)
        console.print(table)
        _print(console, plain(line), wrap=sys.stdout.isatty())

    @property
    def narrow(self) -> bool:
        """Whether the result goes to a terminal that has no room for all of the table."""
        return sys.stdout.isatty() and self.console.width < TABLE

    def say(self, line: str) -> None:
        _print(self.console, plain(line), wrap=self._on_terminal)

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """A stage of the run: on a terminal it is shown live, and a line of it stays."""
        if not self._on_terminal or self.console.quiet:
            yield
            return
        self._step, self._started, self._bars, self._latest = name, time.monotonic(), [], None
        live = Live(
            get_renderable=self._view,
            console=self.console,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        mark, style = "x" if self._ascii else "✗", "red"
        try:
            with live:
                yield
            mark, style = "*" if self._ascii else "✓", "green"
        finally:
            facts = ", ".join([span(time.monotonic() - self._started), *self._came_to()])
            line = Table.grid(padding=(0, 1, 0, 0))  # the facts are wrapped under one another
            line.add_row(Text(mark, style), Text(f"{name:<8}"), Text(plain(facts)))
            self.console.print(line)

    @contextmanager
    def stage(self, name: str, total: int, drawn: Usage | None = None, *, silent: bool = False) -> Generator[Bar]:
        """A bar for `total` steps, 0 where they are not known yet; a silent one is shown live and leaves no line."""
        lines = None if silent or self._on_terminal else self.console
        bar = self._latest = Bar(plain(name), total, drawn, lines)
        if not silent:
            self._bars.append(bar)
        try:
            yield bar
            bar.line(now=False)
        finally:
            bar.end()
            if drawn is not None:
                drawn.on_call = lambda: None

    @property
    def _ascii(self) -> bool:
        return self.console.options.ascii_only

    def _came_to(self) -> list[str]:
        """What the step's bars came to, together."""
        if len(self._bars) == 1:
            bar = self._bars[0]
            unfinished = [] if bar.done == bar.total else [f"{bar.done:,} of {bar.total:,}"]
            return [*unfinished, *bar.facts(now=False)]
        calls = sum(bar.calls for bar in self._bars)
        unfinished = [f"{bar.done:,} of {bar.total:,}" for bar in self._bars if bar.done < bar.total]
        notes = [note for bar in self._bars for note in bar.notes]
        return [*unfinished, *notes, *([f"{calls:,} calls"] if calls else [])]

    def _view(self) -> Group:
        """The step, its bar, what came of it so far, and the steps to come: lines that are never wrapped."""
        bar = self._latest
        head = Text.assemble(("> " if self._ascii else "▸ ", "cyan"), (f"{self._step:<8} ", "bold"))
        lines = [head]
        if bar is None or not bar.total:
            head.append(f"getting ready, {span(time.monotonic() - self._started)}")
        else:
            full = round(BAR * min(1.0, bar.done / bar.total))
            head.append(("#" if self._ascii else "━") * full, "cyan").append("-" * (BAR - full), "dim")
            head.append(f" {bar.done:,}/{bar.total:,}")
            title = bar.name.removeprefix(self._step).lstrip(" :,")
            time_line = f"{title}, " if title else ""
            lines.append(Text(f"  {time_line}{span(bar.elapsed)}{bar.left()}"))
            lines += [Text(f"  {plain(fact)}") for fact in bar.facts(now=True)]
        if self._step in self.steps and (then := self.steps[self.steps.index(self._step) + 1 :]):
            lines.append(Text(f"  then {', '.join(then)}", "dim"))
        for line in lines:
            line.truncate(min(self.console.width, WIDTH) - 1, overflow="ellipsis")
        return Group(*lines)


def _print(console: Console, line: str, *, wrap: bool) -> None:
    """On a terminal lines are wrapped between words; a long path stays whole, to be copied."""
    if wrap:
        parts = [
            textwrap.wrap(part, console.width, break_long_words=False, break_on_hyphens=False)
            for part in line.split("\n")
        ]
        line = "\n".join(part for wrapped in parts for part in wrapped)
    console.print(line, markup=False)


def span(seconds: float) -> str:
    """A length of time, to be read."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
