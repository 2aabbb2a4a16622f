"""Networks that give a face a new mouth, by name: each an adapter from weights to the `DubEngine` protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.shipped import did_you_mean
from lipsync_cli.dubbing.engine import DubEngine

Load = Callable[[str, str, Mapping[str, str]], DubEngine]


def _flashlips(model: str, device: str, options: Mapping[str, str]) -> DubEngine:
    from lipsync_cli.tasks.engines.flashlips import load_flashlips_engine

    return load_flashlips_engine(model, device, options)


ENGINES: dict[str, Load] = {"flashlips-tiny": _flashlips}


def load_engine(name: str, device: str, options: Mapping[str, str]) -> DubEngine:
    """An engine with its weights.

    name: of `ENGINES`.  device: as in `--device`.  options: of the engine, such as {"adapt": "auto"}; those it does not
    know are ignored.
    Raises: UsageError for an unknown name; WeightsError when the weights are not on this machine.
    """
    if name not in ENGINES:
        raise UsageError(
            f"unknown engine '{name}'{did_you_mean(name, ENGINES)}.", f"one of: {', '.join(ENGINES)}"
        )
    return ENGINES[name](name, device, options)
