"""Real clips: the face is found in practically every frame, and stays one track."""

from __future__ import annotations

import itertools

import pytest

from lipsync_cli.faces.follow import follow_faces
from lipsync_cli.media.frames import sample_frames
from lipsync_cli.media.shots import ShotDetector

pytestmark = pytest.mark.real


def found(path, models):
    """Share of frames with a face, and the ids of the tracks, over the first four seconds."""
    frames = list(itertools.islice(sample_frames(path, long_side_px=960), 100))
    crops = list(follow_faces(frames, ShotDetector().is_cut, models))
    return len({crop.time for crop in crops}) / len(frames), {crop.track_id for crop in crops}


@pytest.mark.parametrize("name", ["garden", "talk2", "talk4"])
def test_wild_clips(real_clips, models, name):
    share, ids = found(real_clips / f"wild/{name}.mp4", models)
    assert share >= 0.99
    assert ids == {0}


def test_grid_clips(real_clips, models):
    clips = [sorted(folder.glob("*.mp4"))[0] for folder in sorted((real_clips / "grid").glob("s*"))]
    assert len(clips) >= 9
    for clip in clips:
        share, ids = found(clip, models)
        assert share >= 0.99, clip.name
        assert ids == {0}, clip.name
