"""What a run shows while it works: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from secondnature.sampling import Drawn

SURE = 0.1  # the share that must be done before the time left is worth saying
EVERY = 10.0  # seconds between lines where there is no terminal


@dataclass
class Bar:
    """One stage's progress. `drawn` is where tokens per second come from."""

    name: str
    total: int
    drawn: Drawn | None
    live: Progress | None
    console: Console
    done: int = 0
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    _before: tuple[int, int] = (0, 0)
    _last_line: float = 0.0

    def __post_init__(self) -> None:
        self._last_line = self.started
        self._task = self.live.add_task(self.name, total=self.total, note="") if self.live else None
        if self.drawn is not None:
            self._before = self.drawn.calls, self.drawn.completion_tokens
            self.drawn.on_call = self.show

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count `steps` more done; `note` says what came of them."""
        self.done += steps
        self.note = self.note if note is None else note
        self.show()

    def show(self) -> None:
        """Bring the bar up to date, or print a line where the last one is old enough."""
        if self.live is not None and self._task is not None:
            self.live.update(self._task, completed=self.done, total=self.total, note=self._text())
        elif time.monotonic() - self._last_line >= EVERY:
            self._last_line = time.monotonic()
            self._line()

    def finish(self) -> None:
        if self.drawn is not None:
            self.drawn.on_call = lambda: None
        if self.live is None:
            self._line()
        else:
            self.show()

    def _text(self) -> str:
        parts = [self.note] if self.note else []
        elapsed = time.monotonic() - self.started
        if self.drawn is not None and self.drawn.calls > self._before[0]:
            parts.append(f"{self.drawn.calls - self._before[0]:,} calls")
            parts.append(f"{(self.drawn.completion_tokens - self._before[1]) / elapsed:,.0f} tokens/s")
        return ", ".join(parts)

    def _line(self) -> None:
        elapsed = time.monotonic() - self.started
        left = ""
        if SURE * self.total <= self.done < self.total:
            left = f", about {_span(elapsed / self.done * (self.total - self.done))} left"
        text = f" ({note})" if (note := self._text()) else ""
        self.console.print(f"{self.name}: {self.done}/{self.total}{text}, {_span(elapsed)}{left}", markup=False)


class Display:
    """Where a run's progress and notices go: standard error; its result goes to standard output."""

    def __init__(self, *, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def result(self, table: Table, line: str) -> None:
        """What a run comes to, on standard output."""
        wide = None if sys.stdout.isatty() else 100
        console = Console(highlight=False, soft_wrap=True, width=wide)
        console.print(table)
        console.print(line, markup=False)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    @contextmanager
    def stage(self, name: str, total: int, drawn: Drawn | None = None, *, silent: bool = False) -> Generator[Bar]:
        """A bar for `total` steps; a silent one counts and shows nothing."""
        if silent:
            yield Bar(name, total, drawn, None, Console(quiet=True))
            return
        if not self.console.is_terminal or self.console.quiet:
            bar = Bar(name, total, drawn, None, self.console)
            yield bar
            bar.finish()
            return
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self.console) as live:
            bar = Bar(name, total, drawn, live, self.console)
            yield bar
            bar.finish()


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
