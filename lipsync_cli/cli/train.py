"""`lipsync train pretrain | …`: one command per folder of recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lipsync_cli.cli.options import Json, Quiet, Set, examples
from lipsync_cli.cli.output import Output, table, write_line

Recipe = Annotated[
    str, typer.Option("--recipe", metavar="NAME", help="A recipe that ships with lipsync, or a YAML file.")
]
Run = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder of the run; resumed when it exists. Default runs/NAME.",
        show_default=False,
    ),
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the resolved recipe and stop.")]
Cpu = Annotated[bool, typer.Option("--cpu", help="Train on the CPU even where there is a GPU.")]

READ = "lipsync train read --recipe vsr_grid_tiny --set data.manifest=prepared/grid"
PRETRAIN = "lipsync train pretrain --recipe synclipmae_tiny --set data.manifest=prepared"


def register(app: typer.Typer) -> None:
    train = typer.Typer(
        no_args_is_help=True,
        help="Train the networks, as the papers describe. Several GPUs: accelerate launch.",
    )
    train.command("pretrain", epilog=examples(PRETRAIN))(pretrain)
    train.command("read", epilog=examples(READ))(read)
    app.add_typer(train, name="train", epilog=examples(PRETRAIN))


def pretrain(
    set: Set,
    recipe: Recipe = "synclipmae_base",
    out: Run = None,
    print_config: PrintConfig = False,
    cpu: Cpu = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pretrain SyncLipMAE; prints the paper's lag table on the validation clips."""
    _train(
        "pretrain",
        recipe,
        set,
        out,
        print_config,
        cpu,
        Output(schema="lipsync.train/1", json=json, quiet=quiet),
    )


def read(
    set: Set,
    recipe: Recipe = "vsr_synclipmae",
    out: Run = None,
    print_config: PrintConfig = False,
    cpu: Cpu = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a lip reader; prints word and character error rates on the validation clips."""
    _train(
        "read", recipe, set, out, print_config, cpu, Output(schema="lipsync.train/1", json=json, quiet=quiet)
    )


def _train(
    verb: str,
    recipe: str,
    overrides: list[str],
    out: Path | None,
    print_config: bool,
    cpu: bool,
    output: Output,
) -> None:
    from lipsync_cli.core.config import dump_config
    from lipsync_cli.tasks.train import TrainRequest, load_recipe, run_recipe

    if print_config:
        write_line(dump_config(load_recipe(verb, recipe, overrides)[0]).rstrip())
        return
    run = out or Path("runs") / Path(recipe).stem
    result = run_recipe(TrainRequest(verb, recipe, run, overrides, cpu), output.progress())
    rows = [(name, f"{value:.3f}") for name, value in result.metrics.items()]
    output.result(result, f"{result.steps} steps: {result.run}\n" + table(("metric", "value"), rows))
