"""Options that mean the same in every verb, written once. Short forms exist for these only.

A command takes what it needs: `def dub(clip: Path, device: Device = "auto", json: Json = False, …)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="auto, cpu, cuda, cuda:N or mps; a named device never falls back to another."
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, metavar="N", help="Parallel worker processes; 0 works in this one.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Same seed, same bytes.")]
Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL", help="A name from `lipsync models list`, hf:org/repo@commit, or a folder (with a /)."
    ),
]
Recipe = Annotated[
    str, typer.Option(metavar="NAME", help="A recipe that ships with lipsync, or a path to a YAML file.")
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        default_factory=list,
        show_default=False,
        help="Override one value of the recipe: optim.lr=3e-5. Repeatable.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="PATH", help="Where to write; by default beside the input.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Print the plan; load no network, write nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines, one object per input.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]


def examples(*lines: str) -> str:
    """The examples of a command, for `epilog=`; every command declares at least one."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
