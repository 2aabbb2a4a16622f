"""Rendering in pieces, each complete or not there, so that a killed run goes on at the first that is missing."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from lipsync_cli.core.progress import Progress
from lipsync_cli.dubbing.plan import Plan
from lipsync_cli.dubbing.render import Job, render
from lipsync_cli.dubbing.work import WorkFolder
from lipsync_cli.media.encode import PIECE_SUFFIX, EncodeSettings, PieceWriter


def render_pieces(
    job: Job, settings: EncodeSettings, work: WorkFolder, progress: Progress
) -> tuple[list[Path], int]:
    """Render what an earlier run has not, and give the files of all pieces, and how many pictures were there already.

    Raises: as `render`; ResourceError when the disk is full.
    """
    plan = job.plan
    paths = [work.piece(number, PIECE_SUFFIX) for number in range(len(plan.pieces))]
    done = len(list(takewhile(Path.exists, paths)))
    start = plan.pieces[done][0] if done < len(paths) else len(plan.reel)
    if start < len(plan.reel):
        with progress.stage(f"mouth of {job.source.name}", len(plan.reel)) as stage:
            stage.advance(start)
            pictures = render(job, start)
            for path, (first, end) in zip(paths[done:], plan.pieces[done:], strict=True):
                with PieceWriter(path, settings) as writer:
                    for _ in range(first, end):
                        position, _, picture = next(pictures)
                        writer.write(picture, plan.reel.times[position])
                        stage.advance()
    return paths, start


def describe(plan: Plan) -> list[str]:
    """What a user should know of the plan: pictures that keep their old mouth, and why."""
    return [
        f"{count} of {len(plan.reel)} pictures keep their own mouth: {reason}"
        for reason, count in plan.passed.items()
    ]
