"""The command line as a program: help, exit codes, streams, and what it costs to start."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from lipsync_cli import __version__
from lipsync_cli.cli import app as app_module
from lipsync_cli.cli.app import VERBS, build_app, main
from lipsync_cli.cli.options import Json, examples
from lipsync_cli.cli.output import Output
from lipsync_cli.core import errors

HEAVY = ("torch", "numpy", "cv2", "av", "scipy", "transformers", "huggingface_hub", "rich", "pydantic")
NOT_VERBS = {"__init__", "app", "options", "output", "progress"}


def command_lines() -> list[list[str]]:
    """Every command of the tree, as the words that call it."""

    def walk(app: typer.Typer, prefix: list[str]):
        for command in app.registered_commands:
            yield [*prefix, command.name or ""]
        for group in app.registered_groups:
            yield [*prefix, group.name or ""]
            assert group.typer_instance is not None
            yield from walk(group.typer_instance, [*prefix, group.name or ""])

    return list(walk(build_app(), []))


def with_command(monkeypatch: pytest.MonkeyPatch, function) -> None:
    """Put one more command, `try`, into the tree."""
    verb = SimpleNamespace(register=lambda app: app.command("try", epilog=examples("lipsync try"))(function))
    monkeypatch.setattr(app_module, "VERBS", (*VERBS, verb))


def raising(error: BaseException):
    def command() -> None:
        """Fail."""
        raise error

    return command


def test_help_lists_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "130 "):
        assert f"\n    {code}" in out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lipsync {__version__}\n"


def test_every_file_of_a_verb_is_in_the_tree():
    files = {path.stem for path in Path(app_module.__file__).parent.glob("*.py")} - NOT_VERBS
    assert len(files) >= 2
    assert {verb.__name__.rpartition(".")[2] for verb in VERBS} == files


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_every_command_has_help_with_an_example(words, capsys):
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples:\n" in out
    assert f"\n    lipsync {words[0]}" in out


def test_there_are_commands_to_walk():
    assert len(command_lines()) >= 6


@pytest.mark.parametrize("argv", [["nonsense"], ["doctor", "--nonsense"], ["models", "path"]])
def test_usage_is_2_and_says_so_on_stderr(argv, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Error" in err


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (errors.UsageError("a.mp4: wrong.", "do this"), 2, "hint: do this"),
        (errors.InputError("a.mp4: no sound."), 3, "error: a.mp4: no sound."),
        (errors.InconclusiveError("a.mp4: too quiet."), 4, "too quiet"),
        (errors.WeightsError("x: not here.", "lipsync models pull x"), 5, "hint: lipsync models pull x"),
        (errors.ResourceError("cuda:7: absent."), 6, "absent"),
        (MemoryError(), 6, "out of memory"),
        (OSError(28, "No space left on device"), 6, "disk is full"),
        (KeyboardInterrupt(), 130, ""),
        (ValueError("two\nlines"), 1, "a bug in lipsync: ValueError: two lines"),
    ],
)
def test_exit_codes(error, code, word, monkeypatch, capsys):
    with_command(monkeypatch, raising(error))
    assert main(["try"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert word in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch, capsys):
    with_command(monkeypatch, raising(ValueError("boom")))
    monkeypatch.setenv("LIPSYNC_DEBUG", "1")
    assert main(["try"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_batch_goes_on_past_a_bad_input_and_keeps_its_code(monkeypatch, capsys):
    def command(clips: list[Path], json: Json = False) -> None:
        """Measure."""
        output = Output(schema="lipsync.try/1", json=json)

        def one(clip: Path) -> int:
            if clip.name == "bad":
                raise errors.InputError("bad: no sound.", "use another file")
            output.result({"input": clip}, str(clip))
            return 4 if clip.name == "unsure" else 0

        output.each(clips, one)

    with_command(monkeypatch, command)
    assert main(["try", "bad", "unsure", "good", "--json"]) == 3
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["input"] for line in lines] == ["bad", "unsure", "good"]
    assert lines[0]["status"] == "error" and lines[0]["exit_code"] == 3
    assert [next(iter(line)) for line in lines] == ["schema"] * 3
    assert "hint: use another file" in err
    assert main(["try", "unsure", "bad"]) == 4
    assert main(["try", "good"]) == 0


def run(code: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, **options
    )


@pytest.mark.parametrize("argv", ["--help", "--version"])
def test_starting_imports_nothing_heavy(argv):
    done = run(
        f"import sys; from lipsync_cli.cli.app import main; code = main(['{argv}']);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    assert done.stderr.strip() == "[] 0"


def test_help_is_quick():
    times_s = []
    for _ in range(4):
        start = time.perf_counter()
        assert run("from lipsync_cli.cli.app import main; main(['--help'])").returncode == 0
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 0.5


def test_a_reader_that_leaves_is_no_traceback():
    code = "import sys; from lipsync_cli.cli.app import main; sys.exit(main(['models', 'list', '--json']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_sigterm_unwinds_so_that_outputs_are_cleaned_up(tmp_path):
    code = f"""
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from lipsync_cli.cli import app
from lipsync_cli.core.output import atomic_path
def command() -> None:
    with atomic_path(Path({str(tmp_path)!r}) / "out.mp4"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
app.VERBS = (*app.VERBS, SimpleNamespace(register=lambda a: a.command("try")(command)))
sys.exit(app.main(["try"]))
"""
    assert run(code).returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_messages_that_nobody_reads_stop_nothing():
    code = "import sys; from lipsync_cli.cli.app import main; sys.exit(main(['models', 'path', 'nope']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stderr.close()
    assert process.stdout.read() == b""
    assert process.wait() == 5
