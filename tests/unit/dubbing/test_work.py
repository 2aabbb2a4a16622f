"""The folder of unfinished work: pieces of the same job are kept, of another thrown away, other people's left alone."""

from __future__ import annotations

import pytest

from lipsync_cli.core.errors import UsageError
from lipsync_cli.dubbing.work import WorkFolder


def test_pieces_of_the_same_job_are_kept_and_of_another_thrown_away(tmp_path):
    work = WorkFolder.beside(tmp_path / "out.mp4")
    assert work.path.name == "out.mp4.partial" and not work.has_pieces
    work.start({"seed": 1})
    work.piece(0, ".nut").write_text("done")
    look = work.look("ab" * 32)
    look.mkdir()
    again = WorkFolder.beside(tmp_path / "out.mp4")
    again.start({"seed": 1})
    assert again.has_pieces and again.piece(0, ".nut").name == "00000.nut"
    again.start({"seed": 2})
    assert not again.has_pieces and look.is_dir()
    again.remove()
    assert not again.path.exists()


def test_a_look_before_any_piece_is_ours_too(tmp_path):
    WorkFolder.beside(tmp_path / "out.mp4").look("cd" * 32).mkdir(parents=True)
    WorkFolder.beside(tmp_path / "out.mp4")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_ours_is_in_the_way(tmp_path, kind):
    other = tmp_path / "out.mp4.partial"
    if kind == "file":
        other.write_text("mine")
    else:
        other.mkdir()
        (other / "novel.txt").write_text("mine")
    with pytest.raises(UsageError, match="in the way"):
        WorkFolder.beside(tmp_path / "out.mp4")
