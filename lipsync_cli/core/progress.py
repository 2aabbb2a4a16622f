"""Progress as a protocol: layers below `cli` report work done and never know who draws it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """One piece of long work under way."""

    def advance(self, count: int = 1) -> None:
        """Report `count` more units done."""
        ...

    def note(self, text: str) -> None:
        """Show a short status beside the counter, such as the current loss."""
        ...


class Progress(Protocol):
    """Where long work is announced."""

    def stage(
        self, name: str, total: int | None = None, unit: str = "frames"
    ) -> AbstractContextManager[Stage]:
        """Open a stage of `total` units (None when unknown); closing it ends the display."""
        ...


class _SilentStage:
    def advance(self, count: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _SilentProgress:
    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[Stage]:
        yield _SilentStage()


SILENT: Progress = _SilentProgress()
