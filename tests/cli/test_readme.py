"""The README is true: its commands run and print what it says, its tables name what there is.

A block that cannot run here (network, GPU, data of the reader's) is preceded by `<!-- not run: why -->`. In the output
that a block shows, `…` stands for anything; lines may be left out.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from lipsync_cli.cli.app import build_app
from lipsync_cli.core.errors import LipsyncError
from lipsync_cli.hub.catalogue import read_catalogue

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^>]+-->\n)?^```(?:console|bash)\n(?P<body>.*?)^```$", re.M | re.S
)
IMPORTED_AS = {"opencv-python-headless": "cv2", "pyyaml": "yaml", "huggingface-hub": "huggingface_hub"}


@dataclass(frozen=True)
class Command:
    line: str
    shown: tuple[str, ...]
    runs: bool


def commands() -> list[Command]:
    found = []
    for block in BLOCK.finditer(README):
        for part in re.split(r"^\$ ", block["body"], flags=re.M)[1:]:
            line, *shown = part.replace("\\\n", " ").splitlines()
            found.append(Command(line, tuple(text for text in shown if text.strip()), block["mark"] is None))
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder as a reader would have it: the examples, and `lipsync` on the path."""
    folder = tmp_path_factory.mktemp("desk")
    if (ROOT / "examples").is_dir():
        shutil.copytree(ROOT / "examples", folder / "examples")
    program = folder / "bin" / "lipsync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lipsync_cli "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("command", [c for c in commands() if c.runs], ids=lambda c: c.line)
def test_a_command_runs_and_prints_what_is_shown(command, desk):
    environment = {**os.environ, "PATH": f"{desk / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command.line], cwd=desk, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    printed = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in command.shown:
        pattern = re.compile(".*".join(re.escape(" ".join(piece.split())) for piece in line.split("…")))
        assert any(pattern.fullmatch(text) for text in printed), f"not printed: {line}\n{done.stdout}"


def test_there_are_commands_and_the_test_command_is_that_of_ci():
    assert len(commands()) >= 5 and sum(command.runs for command in commands()) >= 2
    assert "pytest" in [command.line for command in commands()]
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == "pytest"


def test_every_verb_has_a_row_and_every_row_a_verb():
    app = build_app()
    verbs = {command.name for command in app.registered_commands} | {
        group.name for group in app.registered_groups
    }
    assert set(re.findall(r"^\| `lipsync ([a-z-]+)[^`]*` \|", README, re.M)) == verbs


def test_every_model_has_a_row_with_its_licence():
    rows = dict(re.findall(r"^\| `([a-z0-9.-]+)` \| [^|]+ \| ([^|]+) \| (?:embedded|Hub)", README, re.M))
    assert rows.keys() == read_catalogue().keys()
    for name, licence in rows.items():
        assert read_catalogue()[name].licence.startswith(licence.partition(";")[0])


def test_every_exit_code_has_a_row():
    codes = {error.exit_code for error in (LipsyncError, *LipsyncError.__subclasses__())} | {0, 130}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)} == codes


def test_every_package_in_use_is_declared_and_explained():
    declared = {re.match(r"[A-Za-z0-9-]+", line)[0] for line in PROJECT["dependencies"]}
    explained = set(re.findall(r"^\| `([a-z][a-z0-9-]+)` \| [^|]+ \|$", README, re.M))
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "lipsync_cli").rglob("*.py"))
    used = {
        name
        for name in declared
        if re.search(rf"^\s*(?:import|from) {IMPORTED_AS.get(name, name)}\b", source, re.M)
    }
    assert len(used) > 8
    assert used <= explained, f"say in the README why: {used - explained}"
    assert explained <= declared, f"not in pyproject: {explained - declared}"


def test_every_area_of_the_package_is_in_the_tree():
    areas = {path.parent.name for path in (ROOT / "lipsync_cli").glob("*/__init__.py")}
    assert len(areas) > 8
    assert areas <= set(re.findall(r"^  ([a-z]+)/ ", README, re.M))
