"""`lipsync train`: any recipe, through the one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipsync_cli.core.config import build_config, dump_config, read_recipe
from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.output import atomic_path
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.core.shipped import did_you_mean, find_recipe
from lipsync_cli.training.loop import TrainResult, train
from lipsync_cli.training.objective import Objective


@dataclass(frozen=True)
class Trainable:
    """What a recipe's `objective` names: its dataclass, and what builds the objective from it."""

    recipe: type[Any]
    build: Callable[[Any], Objective]


def _synclipmae() -> Trainable:
    from lipsync_cli.networks.synclipmae.objective import PretrainObjective, PretrainRecipe

    return Trainable(PretrainRecipe, PretrainObjective)


def _vsr() -> Trainable:
    from lipsync_cli.networks.vsr.recipe import ReadRecipe, build_objective

    return Trainable(ReadRecipe, build_objective)


def _stable_syncnet() -> Trainable:
    from lipsync_cli.networks.latentsync.objective import SyncNetObjective, SyncNetRecipe

    return Trainable(SyncNetRecipe, SyncNetObjective)


def _flashlips_expression() -> Trainable:
    from lipsync_cli.networks.flashlips.objective_lips import ExpressionObjective, ExpressionRecipe

    return Trainable(ExpressionRecipe, ExpressionObjective)


def _flashlips_editor() -> Trainable:
    from lipsync_cli.networks.flashlips.objective import EditorObjective, EditorRecipe

    return Trainable(EditorRecipe, EditorObjective)


def _flashlips_refine() -> Trainable:
    from lipsync_cli.networks.flashlips.objective import RefineObjective, RefineRecipe

    return Trainable(RefineRecipe, RefineObjective)


def _flashlips_distil() -> Trainable:
    from lipsync_cli.networks.flashlips.objective_lips import DistilObjective, DistilRecipe

    return Trainable(DistilRecipe, DistilObjective)


def _flashlips_audio2lips() -> Trainable:
    from lipsync_cli.networks.flashlips.objective_audio import AudioToLipsRecipe
    from lipsync_cli.networks.flashlips.tiny_audio import build_audio_objective

    return Trainable(AudioToLipsRecipe, build_audio_objective)


def _latentsync() -> Trainable:
    from lipsync_cli.networks.latentsync.unet_objective import UNetObjective, UNetRecipe

    return Trainable(UNetRecipe, UNetObjective)


def _flashlips_warp() -> Trainable:
    from lipsync_cli.networks.flashlips.warp_objective import WarpObjective, WarpRecipe

    return Trainable(WarpRecipe, WarpObjective)


TRAINABLES: dict[str, Callable[[], Trainable]] = {
    "synclipmae": _synclipmae,
    "vsr": _vsr,
    "stable-syncnet": _stable_syncnet,
    "latentsync": _latentsync,
    "flashlips-expression": _flashlips_expression,
    "flashlips-editor": _flashlips_editor,
    "flashlips-refine": _flashlips_refine,
    "flashlips-distil": _flashlips_distil,
    "flashlips-audio2lips": _flashlips_audio2lips,
    "flashlips-warp": _flashlips_warp,
}


@dataclass(frozen=True)
class TrainRequest:
    """verb: folder of the recipe (pretrain, syncnet, dub, read, probe).  recipe: name or file.  run: folder of the run,
    made when absent; a run that is there goes on from its newest checkpoint.  cpu: train on the CPU even beside a GPU.
    """

    verb: str
    recipe: str
    run: Path
    overrides: Sequence[str] = ()
    cpu: bool = False


def load_recipe(verb: str, name: str, overrides: Sequence[str]) -> tuple[Any, Trainable]:
    """A recipe with its overrides.  Raises: UsageError with every fault."""
    path = find_recipe(verb, name)
    data = read_recipe(path, overrides)
    kind = data.get("objective")
    if kind not in TRAINABLES:
        raise UsageError(
            f"{path}: unknown objective '{kind}'{did_you_mean(str(kind), TRAINABLES)}.",
            f"one of: {', '.join(TRAINABLES)}",
        )
    trainable = TRAINABLES[kind]()
    return build_config(data, trainable.recipe, source=str(path)), trainable


def run_recipe(request: TrainRequest, progress: Progress = SILENT) -> TrainResult:
    """Train a recipe to its end.  The run folder holds recipe.yaml, log.jsonl, checkpoints/ and model/.

    Raises: UsageError for a faulty recipe, or when the folder holds a run of another recipe.
    """
    recipe, trainable = load_recipe(request.verb, request.recipe, request.overrides)
    request.run.mkdir(parents=True, exist_ok=True)
    _keep_recipe(request.run / "recipe.yaml", dump_config(recipe))
    return train(trainable.build(recipe), recipe.loop, request.run, cpu=request.cpu, progress=progress)


def _keep_recipe(path: Path, text: str) -> None:
    if path.exists():
        if path.read_text() != text:
            raise UsageError(
                f"{path.parent}: holds a run of another recipe.", "choose another folder with --out"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text)
