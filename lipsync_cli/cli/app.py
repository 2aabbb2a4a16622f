"""`lipsync`: gathers the verbs, and turns whatever a command raises into a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from lipsync_cli import __version__
from lipsync_cli.cli import doctor, dub, evaluate, models, offset, prepare, read, resync, train
from lipsync_cli.cli.output import READER_GONE, print_error, write_line
from lipsync_cli.core.errors import LipsyncError, ResourceError

# to add a verb: write cli/<verb>.py with a `register`, and name it here and in the README
VERBS = (offset, resync, dub, read, train, evaluate, prepare, models, doctor)

INTERRUPTED, TERMINATED = 130, 143

HELP = """Detect, fix, read and re-create the match between mouths and sound.

\b
Exit codes:
  0    every input succeeded
  1    a bug in lipsync (LIPSYNC_DEBUG=1 shows the traceback)
  2    usage: the command or recipe cannot mean what was typed
  3    input unusable: missing, undecodable, no sound, no face
  4    inconclusive: measured, not to be trusted, reasons listed
  5    weights unavailable: name, network, licence gate, checksum
  6    resources: device, memory, disk
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (the process's own by default) and return its exit code."""
    with _quiet_libraries(), _terminate_as_exit():
        try:
            build_app()(list(sys.argv[1:] if argv is None else argv), prog_name="lipsync")
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        except BaseException as error:
            code = _explain(error)
    return code if _flush() else READER_GONE


def build_app() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help: it starts faster, and pipes as it looks
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for verb in VERBS:
        verb.register(app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        write_line(f"lipsync {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]


def _options(version: Version = False) -> None: ...


def _explain(error: BaseException) -> int:
    """The table of errors: print what happened, return the exit code."""
    if debugging():
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        write_line("interrupted", error=True)
        return INTERRUPTED
    known = error if isinstance(error, LipsyncError) else _as_resource_error(error)
    if known:
        print_error(known)
        return known.exit_code
    what = " ".join(f"{type(error).__name__}: {error}".split())
    print_error(
        LipsyncError(f"a bug in lipsync: {what}", "run again with LIPSYNC_DEBUG=1 and report what it prints")
    )
    return LipsyncError.exit_code


def _as_resource_error(error: BaseException) -> ResourceError | None:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return ResourceError(
            "the device ran out of memory.", "use --device cpu, or free the device: lipsync doctor"
        )
    if isinstance(error, MemoryError):
        return ResourceError(
            "this machine ran out of memory.", "close other programs, or use fewer --workers"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"{error.filename or 'a temporary file'}: the disk is full.", "free space and run again"
        )
    return None


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("LIPSYNC_DEBUG", "") not in ("", "0")


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the warnings that libraries address to programmers away from users."""
    with warnings.catch_warnings():
        if not debugging():
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _terminate_as_exit() -> Iterator[None]:
    """Let a SIGTERM unwind the stack, so that unfinished outputs are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(TERMINATED)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _flush() -> bool:
    """Empty stdout; False when its reader has gone, which Python would otherwise report as it shuts down."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
