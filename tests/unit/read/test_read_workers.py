import multiprocessing
import sys

import pytest

from lipsync_cli.core.errors import InputError, ResourceError
from lipsync_cli.networks.vsr.mouths import MouthWindow
from lipsync_cli.tasks.faces import face_models
from lipsync_cli.tasks.read_mouths import ClipEnd, MouthSource, Piece
from lipsync_cli.tasks.read_workers import find_pieces
from tests.read_clips import write_speaking_clip


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_process_that_dies_costs_its_clip_alone(tmp_path):
    source = MouthSource(face_models(), MouthWindow(96, 36, 60), 128, 50)  # windows of 2 s: several pieces
    long = write_speaking_clip(tmp_path / "long.mp4", seconds=6)
    short = write_speaking_clip(tmp_path / "short.mp4", seconds=1)
    found = find_pieces([long, short, tmp_path / "missing.mp4"], source, workers=1)
    said = [next(found)]
    (worker,) = multiprocessing.active_children()
    worker.kill()
    said += list(found)
    of_clip = [[one for number, one in said if number == clip] for clip in range(3)]
    assert isinstance(of_clip[0][0], Piece)
    died = of_clip[0][-1]
    assert isinstance(died, ResourceError) and "long.mp4" in died.message and died.exit_code == 6
    assert isinstance(of_clip[1][-1], ClipEnd) and isinstance(of_clip[1][0], Piece)
    assert isinstance(of_clip[2][-1], InputError) and len(of_clip[2]) == 1
    assert not multiprocessing.active_children()


def test_networks_are_loaded_once_for_all_clips(tmp_path):
    class Counted:
        loads = 0

        def load(self):
            self.loads += 1
            return face_models().load()

    faces = Counted()
    clip = write_speaking_clip(tmp_path / "clip.mp4", seconds=0.5)
    source = MouthSource(faces, MouthWindow(96, 36, 60), 128, 75)
    found = list(find_pieces([clip, clip], source, workers=0))
    assert [number for number, one in found if isinstance(one, ClipEnd)] == [0, 1]
    assert faces.loads == 1
