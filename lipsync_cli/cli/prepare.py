"""`lipsync prepare FOOTAGE OUT`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lipsync_cli.cli.options import Json, Quiet, Workers, examples
from lipsync_cli.cli.output import Output

Footage = Annotated[
    Path,
    typer.Argument(
        readable=False, metavar="FOOTAGE", help="A folder of videos, one folder per subject, or one video."
    ),
]
Prepared = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to prepare into; made when absent.")]
Text = Annotated[
    Path | None,
    typer.Option(
        "--text",
        metavar="FILE",
        help="JSON Lines: clip, text, words [word, start s, end s].",
        show_default=False,
    ),
]
FacePx = Annotated[
    int,
    typer.Option(
        "--face-px", min=32, metavar="PX", help="Side of the face crops, beside a margin of a sixteenth."
    ),
]


def register(app: typer.Typer) -> None:
    app.command("prepare", epilog=examples("lipsync prepare footage prepared --workers 8"))(prepare)


def prepare(
    footage: Footage,
    out: Prepared,
    text: Text = None,
    face_px: FacePx = 128,
    workers: Workers = 1,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn footage into training data: aligned faces, 16 kHz sound, a manifest. A stopped run goes on where it was."""
    from lipsync_cli.data.prepare import PrepareConfig
    from lipsync_cli.faces.align import CropGeometry
    from lipsync_cli.tasks.prepare import PrepareRequest
    from lipsync_cli.tasks.prepare import prepare as run

    output = Output(schema="lipsync.prepare/1", json=json, quiet=quiet)
    geometry = CropGeometry(face_px // 2 * 2, max(1, face_px // 32) * 2)  # pictures have even sides
    request = PrepareRequest(footage, out, text, workers, PrepareConfig(geometry))
    result = run(request, output.progress())
    said = f"{result.clips} clips, {result.hours:.2f} h, from {result.files} files: {result.manifest}"
    output.result(
        result, said + (f"\n{result.dropped} pieces dropped, why: {result.report}" if result.dropped else "")
    )
