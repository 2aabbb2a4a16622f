"""The one printing place. The result goes to stdout, as text or JSON Lines; everything else to stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import typer

from lipsync_cli.core.errors import LipsyncError
from lipsync_cli.core.progress import SILENT, Progress

Input = TypeVar("Input")

READER_GONE = 141  # what a shell reports for a program whose reader closed the pipe (128 + SIGPIPE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """How one command speaks.

    schema: name and version of the JSON object, such as "lipsync.offset/1"; the first key of every object.
    """

    schema: str
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def result(self, value: Any, text: str) -> None:
        """Print one result: `value` (a dataclass or mapping) under --json, `text` otherwise."""
        if self.json:
            write_line(
                json.dumps({"schema": self.schema, **as_json(value)}, ensure_ascii=False, allow_nan=False)
            )
        else:
            write_line(text)

    def note(self, text: str) -> None:
        """Tell the user something on stderr that is not the result, such as the chosen device."""
        if not self.quiet:
            write_line(text, error=True)

    def detail(self, text: str) -> None:
        """Tell it only to a user who asked with --verbose."""
        if self.verbose:
            self.note(text)

    def warning(self, text: str) -> None:
        """Say on stderr that the result is less than it may seem."""
        self.note(f"warning: {text}")

    def progress(self) -> Progress:
        """What a task reports to: a bar on a terminal, a line now and then in a log, nothing if --quiet."""
        if self.quiet:
            return SILENT
        from lipsync_cli.cli.progress import BarProgress, LineProgress

        return BarProgress() if sys.stderr.isatty() else LineProgress()

    def each(self, inputs: Sequence[Input], run: Callable[[Input], int | None]) -> None:
        """Run a command on every input, going on past a bad one.

        run: handles one input and returns its exit code (None means 0). A LipsyncError it raises is printed,
        under --json also as an object with `"status": "error"`.
        Raises: typer.Exit with the first code that was not 0.
        """
        first_failure = 0
        for item in inputs:
            try:
                code = run(item) or 0
            except LipsyncError as error:
                code = error.exit_code
                self._failed(item, error)
            first_failure = first_failure or code
        if first_failure:
            raise typer.Exit(first_failure)

    def _failed(self, item: object, error: LipsyncError) -> None:
        print_error(error)
        if self.json:
            failure = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
            self.result({"input": str(item), "status": "error", **failure}, "")


def print_error(error: LipsyncError) -> None:
    """Say on stderr what is wrong, and what to do about it."""
    write_line(f"error: {error.message}", error=True)
    if error.hint:
        write_line(f"hint: {error.hint}", error=True)


def write_line(text: str, *, error: bool = False) -> None:
    """Write one line to stdout (or stderr).

    What the stream cannot encode (a file name that is not Unicode) is written escaped.
    Raises: typer.Exit(141) when the reader of stdout has gone; messages that nobody reads stop nothing.
    """
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except BrokenPipeError:
        if not error:
            raise typer.Exit(READER_GONE) from None


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay rows out under their column names, numbers to the right. On a terminal the last column wraps."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    laid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        number = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        last = index == len(columns) - 1
        laid.add_column(name, justify="right" if number else "left", no_wrap=not last, overflow="fold")
    for row in cells:
        laid.add_row(*(Text(str(cell)) for cell in row))
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 4096, color_system="auto" if terminal else None)
    with console.capture() as capture:
        console.print(laid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def size(count_bytes: int | None) -> str:
    """Bytes as a person reads them: `3.6 MB`, `5.1 GB`; `?` when unknown."""
    if count_bytes is None:
        return "?"
    exponent = 3 if count_bytes >= 1e9 else 2 if count_bytes >= 1e6 else 1
    return f"{count_bytes / 1000**exponent:.1f} {('kB', 'MB', 'GB')[exponent - 1]}"


def as_json(value: Any) -> Any:
    """Turn a result into what JSON can hold.

    Dataclasses become objects, Fraction float (seconds stay seconds), numpy arrays and scalars lists and
    numbers, paths strings, enums their value, NaN and infinities null.
    Raises: TypeError for anything else, so that no result is printed as a repr.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Fraction):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Enum):
        return as_json(value.value)
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [as_json(item) for item in value]
    to_list = getattr(value, "tolist", None)  # numpy, without importing it
    if to_list is not None:
        return as_json(to_list())
    raise TypeError(f"{type(value).__name__} has no JSON form")
