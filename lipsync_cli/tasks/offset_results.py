"""Records of measured clips as files: RESULTS.jsonl, which a killed batch goes on from, and CSV."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lipsync_cli.core.errors import InputError, ResourceError, UsageError
from lipsync_cli.tasks.offset_record import SCHEMA, Record

CSV_COLUMNS = (
    *("input", "face", "shot", "start_s", "end_s", "speaking", "status", "exit_code"),
    *("audio_lead_ms", "interval_low_ms", "interval_high_ms", "suggested_audio_delay_ms", "confidence"),
    *("reasons", "verdict", "standard", "model", "words"),
)


class ResultsFile:
    """RESULTS.jsonl: one record a line, each written whole as soon as it is known, so that a killed batch can go on."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """resume: keep what is there; otherwise the first record replaces it.

        Raises: UsageError when what is there is no such file.
        """
        self.path = path
        self._known: dict[str, Record] = {}
        self._keep = resume
        if resume and path.exists():
            self._known = {record["input"]: record for record in _read_records(path)}
            _drop_half_line(path)

    def recorded(self, clip: Path, settings: Record) -> Record | None:
        """The record of a clip, if it was measured as now asked. Lack of memory or weights (5, 6, a bug) is tried again."""
        record = self._known.get(str(clip))
        if record is None or record.get("exit_code") not in (0, 3, 4):
            return None
        return record if all(record.get(key) == value for key, value in settings.items()) else None

    def add(self, record: Record) -> None:
        """Append one JSON-ready record. Raises: ResourceError, InputError when it cannot be written."""
        text = json.dumps({"schema": SCHEMA, **record}, ensure_ascii=False, allow_nan=False) + "\n"
        line = text.encode("utf-8", "backslashreplace")
        try:
            with self.path.open("ab" if self._keep else "wb", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                if file.write(line) < len(line):  # the disk filled up midway
                    file.truncate(size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            kind = InputError if isinstance(error, PermissionError) else ResourceError
            raise kind(
                f"{self.path}: cannot be written ({error.strerror}).", "choose another --out"
            ) from error
        self._keep = True


def _read_records(path: Path) -> Iterator[Record]:
    """Records line by line; a last line that was cut off is passed over."""
    lines = path.read_bytes().splitlines(
        keepends=True
    )  # of bytes: a name may hold a line separator of Unicode
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if record["schema"] != SCHEMA or not isinstance(record["input"], str):
                raise KeyError("schema")
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not line.endswith(b"\n"):
                return
            raise UsageError(
                f"{path}: line {number} is no result of lipsync offset.", "choose another file with --out"
            ) from None
        yield record


def _drop_half_line(path: Path) -> None:
    whole = path.read_bytes().rfind(b"\n") + 1
    with path.open("r+b") as file:
        file.truncate(whole)


def csv_text(records: Iterable[Record]) -> str:
    """A header, then for every clip one row for itself, where `face` is empty, and one for each of its faces."""
    table = io.StringIO()
    writer = csv.DictWriter(table, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records:
        for part in (record, *record.get("faces", ())):
            writer.writerow({column: _plain(_cell(record, part, column)) for column in CSV_COLUMNS})
    return table.getvalue()


def _cell(record: Record, part: Record, column: str) -> Any:
    verdict = record.get("verdict") or {}
    low_high = part.get("interval_ms") or (None, None)
    special = {
        "input": record["input"],
        "end_s": part.get(
            "end_s", record.get("start_s", 0) + record["duration_s"] if "duration_s" in record else None
        ),
        "interval_low_ms": low_high[0],
        "interval_high_ms": low_high[1],
        "reasons": " ".join(reason["code"] for reason in part.get("reasons", ())),
        "verdict": verdict.get("outcome") if part is record else None,
        "standard": verdict.get("standard") if part is record else None,
        "words": part.get("words", part.get("message")),
        "model": record.get("model"),
    }
    return special.get(column, part.get(column))


def _plain(value: Any) -> Any:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value
