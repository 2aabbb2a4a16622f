"""Networks that give a face a new mouth, by name: each an adapter from weights to the `DubEngine` protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.shipped import did_you_mean
from lipsync_cli.dubbing.engine import DubEngine
from lipsync_cli.hub.model_folder import load_model_folder

Load = Callable[[str, str, Mapping[str, str]], DubEngine]


def _flashlips(model: str, device: str, options: Mapping[str, str]) -> DubEngine:
    from lipsync_cli.tasks.engines.flashlips import load_flashlips_engine

    return load_flashlips_engine(model, device, options)


def _flashlips_latent(model: str, device: str, options: Mapping[str, str]) -> DubEngine:
    from lipsync_cli.tasks.engines.flashlips_latent import load_latent_engine

    return load_latent_engine(model, device)


def _latentsync(model: str, device: str, options: Mapping[str, str]) -> DubEngine:
    from lipsync_cli.tasks.engines.latentsync import load_latentsync_engine

    return load_latentsync_engine(model, device, options)


ENGINES: dict[str, Load] = {
    "flashlips-tiny": _flashlips,
    "latentsync-1.6": _latentsync,
    "latentsync-1.5": _latentsync,
}
# What a model folder of one's own says in its config.json → what runs it.
NETWORKS: dict[str, Load] = {
    "flashlips-warp": _flashlips,
    "flashlips": _flashlips_latent,
    "latentsync": _latentsync,
}


def load_engine(name: str, device: str, options: Mapping[str, str]) -> DubEngine:
    """An engine with its weights.

    name: of `ENGINES`, or a model folder (a path with a /).  device: as in `--device`.  options: of the engine, such as
    {"adapt": "auto"}; those it does not know are ignored.
    Raises: UsageError for an unknown name; WeightsError when the weights are not on this machine.
    """
    if "/" in name:
        return _of_folder(name)(name, device, options)
    if name not in ENGINES:
        raise UsageError(
            f"unknown engine '{name}'{did_you_mean(name, ENGINES)}.", f"one of: {', '.join(ENGINES)}"
        )
    return ENGINES[name](name, device, options)


def _of_folder(name: str) -> Load:
    network = load_model_folder(Path(name)).network
    if network not in NETWORKS:
        raise UsageError(
            f"{name}: a model of '{network}' does not dub.", f"a model of: {', '.join(NETWORKS)}"
        )
    return NETWORKS[network]
