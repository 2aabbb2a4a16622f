"""Drawing progress: a bar with rate and time left on a terminal, a plain line every half minute in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lipsync_cli.cli.output import write_line
from lipsync_cli.core.progress import Stage

LINE_EVERY_S = 30.0


class LineProgress:
    """One line on stderr every `every_s` seconds of a stage; short stages stay silent."""

    def __init__(self, every_s: float = LINE_EVERY_S) -> None:
        self.every_s = every_s

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[Stage]:
        yield _LineStage(name, total, unit, self.every_s)


@dataclass
class _LineStage:
    name: str
    total: int | None
    unit: str
    every_s: float
    done: int = 0
    text: str = ""
    started_s: float = field(default_factory=time.monotonic)
    spoken_s: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1) -> None:
        self.done += count
        now_s = time.monotonic()
        if now_s - self.spoken_s >= self.every_s:
            self.spoken_s = now_s
            write_line(self._line(now_s - self.started_s), error=True)

    def note(self, text: str) -> None:
        self.text = text

    def _line(self, elapsed_s: float) -> str:
        rate_hz = self.done / max(elapsed_s, 1e-9)
        of = f"/{self.total}" if self.total is not None else ""
        parts = [f"{self.name}: {self.done}{of} {self.unit}", f"{rate_hz:.3g} {self.unit}/s"]
        if self.total is not None and rate_hz > 0:
            parts.append(f"{clock((self.total - self.done) / rate_hz)} left")
        return ", ".join([*parts, self.text] if self.text else parts)


class BarProgress:
    """A bar per stage on the terminal's stderr. Stages may be nested: each gets its own row."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            redirect_stdout=False,  # a result printed while the bar is up belongs on stdout, not on its console
            transient=True,
        )
        self._open = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[Stage]:
        if self._open == 0:
            self._bars.start()
        self._open += 1
        task = self._bars.add_task(name, total=total, rate="", text="")
        try:
            yield _BarStage(self._bars, task, unit)
        finally:
            self._bars.remove_task(task)
            self._open -= 1
            if self._open == 0:
                self._bars.stop()


class _BarStage:
    def __init__(self, bars, task, unit: str) -> None:
        self._bars, self._task, self._unit = bars, task, unit
        self._started_s, self._done = time.monotonic(), 0

    def advance(self, count: int = 1) -> None:
        self._done += count
        rate_hz = self._done / max(time.monotonic() - self._started_s, 1e-9)
        self._bars.update(self._task, advance=count, rate=f"{rate_hz:.3g} {self._unit}/s")

    def note(self, text: str) -> None:
        self._bars.update(self._task, text=text)


def clock(seconds: float) -> str:
    """Seconds as a person reads them: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
