"""Runs of mouths become pieces: cut at rest, overlapped where there is none."""

import numpy as np
import pytest

from lipsync_cli.tasks.read_mouths import OVERLAP_FRAMES, _Run


def run_of(opening) -> _Run:
    run = _Run(face=3, shot=1, first=100)
    run.opening = list(opening)
    run.pictures = [np.full((2, 2), n, np.uint8) for n in range(len(opening))]
    return run


def speech(frames: int) -> np.ndarray:
    return 0.1 + 0.08 * np.sin(np.arange(frames) * 1.3)


def test_full_run_is_cut_in_the_middle_of_a_rest():
    opening = speech(80)
    opening[50:62] = 0.02
    run = run_of(opening)
    piece = run.cut()
    assert 50 < len(piece.pictures) < 62 and piece.overlap_frames == 0
    assert run.first == 100 + len(piece.pictures) and run.overlap_frames == 0
    assert run.pictures[0][0, 0] == len(piece.pictures)  # nothing lost, nothing doubled


def test_run_without_rest_overlaps_the_next_piece():
    run = run_of(speech(80))
    piece = run.cut()
    assert len(piece.pictures) == 80
    assert (run.first, run.overlap_frames) == (180 - OVERLAP_FRAMES, OVERLAP_FRAMES)
    assert [p[0, 0] for p in run.pictures] == list(range(80 - OVERLAP_FRAMES, 80))
    assert run.piece(len(run.pictures)).overlap_frames == OVERLAP_FRAMES


def test_only_moving_mouths_speak():
    assert run_of(speech(40)).piece(40).speaks
    assert not run_of(np.full(40, 0.1)).piece(40).speaks
    assert not run_of(0.1 + 0.004 * np.sin(np.arange(40))).piece(40).speaks  # the mesh trembles
    assert not run_of(speech(9)).piece(9).speaks  # too short to tell
    assert run_of([0.1] * 20 + list(speech(20))).piece(40).motion == pytest.approx(0.0575, abs=0.01)
