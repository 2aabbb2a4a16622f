"""`lipsync models list | pull | verify | path`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lipsync_cli.cli.options import Json, Quiet, examples
from lipsync_cli.cli.output import Output, size, table, write_line

Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A name from `lipsync models list`, or hf:org/repo@commit.", show_default=False
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL]...", help="Names; every model on this machine by default.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    models = typer.Typer(no_args_is_help=True, help="List, pull, verify and locate the models.")
    models.command("list", epilog=examples("lipsync models list"))(list_)
    models.command("pull", epilog=examples("lipsync models pull stable-syncnet"))(pull)
    models.command(
        "verify", epilog=examples("lipsync models verify", "lipsync models verify face-mediapipe")
    )(verify)
    models.command("path", epilog=examples("lipsync models path face-mediapipe"))(path)
    app.add_typer(models, name="models", epilog=examples("lipsync models list"))


def list_(json: Json = False) -> None:
    """Show every named model: what it is for, its licence, whether it is on this machine."""
    from lipsync_cli.tasks.models import list_models

    output = Output(schema="lipsync.models.list/1", json=json)
    models = list_models()
    rows = [
        (
            model.name,
            model.kind,
            "here"
            if model.present
            else "missing"
            if model.embedded
            else "pull"
            if model.pinned
            else "pull (not pinned)",
            size(model.size_bytes),
            model.licence.partition(";")[0],
            model.description,
        )
        for model in models
    ]
    output.result({"models": models}, table(("model", "for", "state", "size", "licence", "what it is"), rows))


def pull(model: Source, json: Json = False, quiet: Quiet = False) -> None:
    """Download a published model; its licence is shown first. Nothing else in lipsync downloads."""
    from lipsync_cli.hub.catalogue import read_catalogue
    from lipsync_cli.hub.download import Published, total_bytes
    from lipsync_cli.tasks.models import model_path, pull_model

    output = Output(schema="lipsync.models.pull/1", json=json, quiet=quiet)
    entry = read_catalogue().get(model)
    if entry is not None and entry.embedded:
        here = model_path(model)
        output.result({"source": model, "path": here}, f"{model} comes with lipsync: {here}")
        return

    def announce(published: Published) -> None:
        output.note(f"{model}: {published.repo} at {published.commit}, {size(total_bytes(published.files))}")
        output.note(f"licence: {published.licence} (https://huggingface.co/{published.repo})")
        if not published.pinned:
            output.warning(
                f"'{model}' is not pinned by lipsync: what arrives is recorded in the lock beside the cache"
            )

    result = pull_model(model, announce, output.progress())
    output.result(result, str(result.path))


def verify(models: Sources = None, json: Json = False, quiet: Quiet = False) -> None:
    """Hash the files of models again, and replay the inputs stored with them; exit code 5 if one differs."""
    from lipsync_cli.tasks.models import list_models, verify_model

    output = Output(schema="lipsync.models.verify/1", json=json, quiet=quiet)
    names = models or [model.name for model in list_models() if model.present]

    def one(name: str) -> None:
        result = verify_model(name, output.progress())
        parity = "" if result.parity is None else f", parity within {result.parity:.1e}"
        output.result(result, f"{name}: ok ({len(result.files)} files{parity})")

    output.each(names, one)


def path(model: Source) -> None:
    """Print the folder of a model that is on this machine, for use in scripts."""
    from lipsync_cli.tasks.models import model_path

    write_line(str(Path(model_path(model))))
