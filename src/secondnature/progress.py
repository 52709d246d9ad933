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
PER_SECOND = 4  # refreshes of the live view
WIDTH = 60  # of the live view at most: a line that fits a narrow window is not wrapped when the window becomes one
BAR = 20  # columns
TABLE = 84  # columns of the whole table of results
WINDOW = 60.0  # seconds over which tokens per second and the time left are averaged
LEAST_SECONDS = 1.0  # of a rate in tokens per second: the tokens of the first reply are no rate
SHARE, STEPS_SEEN = 0.1, 10  # the time left is shown once this share, or so many steps, were seen
SOON = 5.0  # seconds: the time left is not shown earlier, nor when it is less


@dataclass
class Bar:
    """The progress of one piece of work. `drawn` counts its model calls; lines go to `console`, where there is one."""

    name: str
    total: int
    drawn: Usage | None = None
    console: Console | None = None
    done: int = 0
    tokens: int = 0
    calls: int = 0
    notes: Sequence[str] = ()
    started: float = field(default_factory=lambda: time.monotonic())

    def __post_init__(self) -> None:
        self._last_line = self.started
        self._seen: deque[tuple[float, int, int]] = deque()  # (time, done, tokens) over the last WINDOW seconds
        self._origin = self.started, 0  # time and tokens that the average over all the time starts from
        if self.drawn is not None:
            self._before = self.drawn.calls, self.drawn.completion_tokens
            self.drawn.on_call = self._count

    def advance(self, steps: int = 1, notes: Sequence[str] | None = None, tokens: int | None = None) -> None:
        """Count `steps` more done; `notes` say what came of them, `tokens` how many there were in all."""
        self.done += steps
        self.notes = self.notes if notes is None else notes
        if self.drawn is None:
            self.tokens = self.tokens if tokens is None else tokens
            self._begin(self.tokens)
        self._see()

    def begin(self, done: int, total: int, tokens: int) -> None:
        """The work itself begins, at step `done`: what came before, such as loading a model, is no part of its rate."""
        self.done, self.total, self.tokens = done, total, tokens
        self._begin(tokens)
        self.line(now=True)

    def end(self) -> None:
        """Count no more: later calls belong to other bars."""
        if self.drawn is not None:
            self.drawn.on_call = lambda: None

    def _count(self) -> None:
        assert self.drawn is not None
        self.calls = self.drawn.calls - self._before[0]
        self.tokens = self.drawn.completion_tokens - self._before[1]
        self._begin(0)
        self._see()

    def _begin(self, tokens: int) -> None:
        """Rates start from the first work: stored replies, or the steps of a checkpoint, came at another rate."""
        if not self._seen:
            self._seen.append((time.monotonic(), self.done, tokens))
            if self.drawn is None:
                self._origin = time.monotonic(), tokens

    def _see(self) -> None:
        now = time.monotonic()
        if self._seen and now - self._seen[-1][0] >= WINDOW / 50:  # few entries, however fast it goes
            self._seen.append((now, self.done, self.tokens))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        if self.console is not None and now - self._last_line >= EVERY:
            self._last_line = now
            self.line(now=True)

    @property
    def recent(self) -> tuple[float, int, int]:
        """Seconds, steps and tokens of the last while; at least since the last time that something was done."""
        then, done, tokens = self._seen[0] if self._seen else (time.monotonic(), self.done, self.tokens)
        return max(time.monotonic() - then, 1e-3), self.done - done, self.tokens - tokens

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def facts(self, *, now: bool) -> list[str]:
        """What came of it so far, with the recent tokens per second (`now`) or those of all the time."""
        seconds, _, tokens = self.recent
        if not now:
            seconds, tokens = max(time.monotonic() - self._origin[0], 1e-3), self.tokens - self._origin[1]
        known = tokens > 0 and (not now or seconds >= LEAST_SECONDS)
        drawn = [
            *([f"{self.calls:,} call{'s' if self.calls > 1 else ''}"] if self.calls else []),
            *([f"{tokens / seconds:,.0f} tokens/s"] if known else []),
        ]
        return [*self.notes, *([", ".join(drawn)] if drawn else [])]

    def left(self) -> str:
        """The time left at the recent rate, where that is known well enough and worth showing."""
        seconds, steps, _ = self.recent
        if seconds < SOON or steps < max(1, min(STEPS_SEEN, SHARE * self.total)):
            return ""
        left = (self.total - self.done) * seconds / steps
        return f", about {span(left)} left" if left >= SOON else ""

    def line(self, *, now: bool) -> None:
        """Print where it stands, where lines are printed."""
        if self.console is not None:
            facts = f" ({', '.join(found)})" if (found := self.facts(now=now)) else ""
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
        self._bars: list[Bar] = []
        self._latest: Bar | None = None

    def result(self, table: Table, line: str) -> None:
        """Print what a run comes to, on standard output."""
        wide = None if sys.stdout.isatty() else 100
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=wide)
        console.print(table)
        _print(console, plain(line), wrap=sys.stdout.isatty())

    @property
    def narrow(self) -> bool:
        """Whether the result goes to a terminal that has no room for all of the table."""
        return sys.stdout.isatty() and self.console.width < TABLE

    def say(self, line: str) -> None:
        """Print a notice."""
        _print(self.console, plain(line), wrap=self._on_terminal)

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """A stage of the run: on a terminal it is shown live, and a line of it stays."""
        if not self._on_terminal or self.console.quiet:
            yield
            return
        started, ascii_only = time.monotonic(), self.console.options.ascii_only
        self._bars, self._latest = [], None
        live = Live(
            get_renderable=lambda: self._view(name, time.monotonic() - started),
            console=self.console,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        mark, style = "x" if ascii_only else "✗", "red"
        try:
            with live:
                yield
            mark, style = "*" if ascii_only else "✓", "green"
        finally:
            facts = ", ".join([span(time.monotonic() - started), *self._outcome()])
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

    def _outcome(self) -> list[str]:
        """What the step's bars came to, together."""
        unfinished = [f"{bar.done:,} of {bar.total:,}" for bar in self._bars if bar.done < bar.total]
        if len(self._bars) == 1:
            return [*unfinished, *self._bars[0].facts(now=False)]
        calls = sum(bar.calls for bar in self._bars)
        notes = [note for bar in self._bars for note in bar.notes]
        return [*unfinished, *notes, *([f"{calls:,} calls"] if calls else [])]

    def _view(self, step: str, seconds: float) -> Group:
        """The step, its bar, what came of it so far, and the steps to come: lines that are never wrapped."""
        bar, ascii_only = self._latest, self.console.options.ascii_only
        head = Text.assemble(("> " if ascii_only else "▸ ", "cyan"), (f"{step:<8} ", "bold"))
        lines = [head]
        if bar is None or not bar.total:
            head.append(f"getting ready, {span(seconds)}")
        else:
            full = round(BAR * min(1.0, bar.done / bar.total))
            head.append(("#" if ascii_only else "━") * full, "cyan").append("-" * (BAR - full), "dim")
            head.append(f" {bar.done:,}/{bar.total:,}")
            title = bar.name.removeprefix(step).lstrip(" :,")
            lines.append(Text(f"  {title + ', ' if title else ''}{span(bar.elapsed)}{bar.left()}"))
            lines += [Text(f"  {plain(fact)}") for fact in bar.facts(now=True)]
        if step in self.steps and (then := self.steps[self.steps.index(step) + 1 :]):
            lines.append(Text(f"  then {', '.join(then)}", "dim"))
        for line in lines:
            line.truncate(min(self.console.width, WIDTH) - 1, overflow="ellipsis")
        return Group(*lines)


def _print(console: Console, text: str, *, wrap: bool) -> None:
    """On a terminal lines are wrapped between words; a long path stays whole, to be copied."""
    if wrap:
        wrapper = textwrap.TextWrapper(console.width, break_long_words=False, break_on_hyphens=False)
        text = "\n".join(map(wrapper.fill, text.split("\n")))
    console.print(text, markup=False)


def span(seconds: float) -> str:
    """A length of time, to be read."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
