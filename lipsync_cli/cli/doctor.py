"""`lipsync doctor`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from lipsync_cli.cli.options import Json, examples
from lipsync_cli.cli.output import Output, table

if TYPE_CHECKING:
    from lipsync_cli.tasks.doctor import DoctorResult


def register(app: typer.Typer) -> None:
    app.command("doctor", epilog=examples("lipsync doctor", "lipsync doctor --json"))(doctor)


def doctor(json: Json = False) -> None:
    """Show what this machine offers: packages, devices, codecs, models, threads."""
    from lipsync_cli.tasks import doctor as task

    result = task.doctor()
    Output(schema="lipsync.doctor/1", json=json).result(result, _text(result))


def _text(result: DoctorResult) -> str:
    packages = [(package.name, package.installed or "missing", package.wanted) for package in result.packages]
    devices = [
        (device.name, device.description, f"{device.memory_gib} GiB" if device.memory_gib else "")
        for device in result.devices
    ]
    here = [name for name, present in result.models.items() if present]
    elsewhere = [name for name, present in result.models.items() if not present]
    without = [name for name, present in result.encoders.items() if not present]
    return "\n".join(
        [
            f"lipsync {result.lipsync}, Python {result.python}, {result.platform}",
            f"{result.cores} cores, {result.torch_threads or 'no'} torch threads",
            "",
            table(("package", "installed", "wanted"), packages),
            "",
            table(("device", "what it is", "memory"), devices),
            "",
            f"encoders: {', '.join(name for name in result.encoders if name not in without)}",
            f"encoders missing: {', '.join(without) or 'none'}",
            f"models here: {', '.join(here) or 'none'}",
            f"models to pull: {', '.join(elsewhere) or 'none'}",
            *(f"problem: {problem}" for problem in result.problems),
        ]
    )
