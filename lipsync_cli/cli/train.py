"""`lipsync train pretrain | …`: one command per folder of recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Verb:
    """A folder of recipes.  recipe: the default one.  help: its first line is the summary.  example: a command."""

    name: str
    recipe: str
    help: str
    example: str


VERBS = (
    Verb(
        "pretrain",
        "synclipmae_base",
        "Pretrain SyncLipMAE; prints the paper's lag table on the validation clips.",
        "lipsync train pretrain --recipe synclipmae_tiny --set data.manifest=prepared",
    ),
    Verb(
        "syncnet",
        "stable_syncnet",
        "Train StableSyncNet; prints how often it judges validation clips rightly.",
        "lipsync train syncnet --recipe stable_syncnet_tiny --set data.manifest=prepared",
    ),
    Verb(
        "dub",
        "flashlips_editor",
        "Train a stage of a dubbing network; prints its errors on the validation clips.",
        "lipsync train dub --recipe flashlips_expression --set data.manifest=prepared",
    ),
    Verb(
        "read",
        "vsr_synclipmae",
        "Train a lip reader; prints word and character error rates on the validation clips.",
        "lipsync train read --recipe vsr_grid_tiny --set data.manifest=prepared/grid",
    ),
)


def register(app: typer.Typer) -> None:
    train = typer.Typer(
        no_args_is_help=True,
        help="Train the networks, as the papers describe. Several GPUs: accelerate launch.",
    )
    for verb in VERBS:
        train.command(verb.name, help=verb.help, epilog=examples(verb.example))(_command(verb))
    app.add_typer(train, name="train", epilog=examples(VERBS[0].example))


def _command(verb: Verb) -> Callable[..., None]:
    def command(
        set: Set,
        recipe: Recipe = verb.recipe,
        out: Run = None,
        print_config: PrintConfig = False,
        cpu: Cpu = False,
        json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        output = Output(schema="lipsync.train/1", json=json, quiet=quiet)
        _train(verb.name, recipe, set, out, print_config, cpu, output)

    return command


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
