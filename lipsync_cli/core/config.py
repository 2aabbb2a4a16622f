"""Recipes and configurations: YAML in, frozen dataclass out, every fault reported at once.

Precedence: `--set` > file > default of the dataclass. `???` in a file marks a value that must be given
(PyYAML wants it quoted inside braces: `{manifest: '???'}`).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml
from pydantic import TypeAdapter, ValidationError

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.shipped import did_you_mean

REQUIRED = "???"

T = TypeVar("T")


def load_config(path: Path, cls: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a YAML file as `cls`, a frozen dataclass (which may hold others), with `a.b=value` overrides.

    Raises: UsageError naming the file and every fault in it.
    """
    return build_config(read_recipe(path, overrides), cls, source=str(path))


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML mapping and apply `a.b=value` overrides, whose values are YAML too.

    Raises: UsageError when the file is missing, is no mapping, or an override has no place in it.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: the recipe cannot be read ({error.strerror}).", "lipsync train --help"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}", "correct the file") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: a recipe is a mapping of names to values.", "correct the file")
    for override in overrides:
        _apply(data, override)
    return data


def build_config(data: Mapping[str, Any], cls: type[T], source: str) -> T:
    """Turn a mapping into `cls`. source: where it came from, for the message.

    Numbers that YAML leaves as text (`1e-4`) become numbers where the field is one.
    Raises: UsageError with every unknown name (and the name probably meant), missing and ill-typed value.
    """
    faults = list(_unknown_names(data, cls, ())) + list(_not_given(data, ()))
    result: T | None = None
    try:
        result = TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        for item in error.errors():
            # in a union pydantic's location carries type names too; they do no harm
            where = ".".join(str(part) for part in item["loc"])
            if not any(fault.startswith(f"{where}: ") for fault in faults):
                faults.append(f"{where}: {_sentence(item)}")
    if faults or result is None:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise UsageError(f"{source}: {len(faults)} fault{'s' * (len(faults) != 1)}:{listed}", _hint(faults))
    return result


def dump_config(config: Any) -> str:
    """A dataclass as YAML that `load_config` reads back to an equal one."""
    data = TypeAdapter(type(config)).dump_python(config, mode="json")
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"--set {override}: an override is KEY=VALUE.", "for example: --set optim.lr=3e-5")
    *parents, last = key.split(".")
    place = data
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {override}: '{parent}' holds a value, not more names.", "see the recipe")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"--set {override}: the value is not YAML.", "quote it: --set 'key=\"value\"'"
        ) from error


def _unknown_names(data: Any, kind: Any, path: tuple[str, ...]) -> Iterator[str]:
    """pydantic lets plain dataclasses ignore extra names, so they are found here."""
    for cls in _dataclasses_in(kind):
        if not isinstance(data, Mapping):
            for index, item in enumerate(data if isinstance(data, list) else ()):
                yield from _unknown_names(item, cls, (*path, str(index)))
            return
        hints = typing.get_type_hints(cls)
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        for name, value in data.items():
            if name in known:
                yield from _unknown_names(value, hints[name], (*path, name))
            else:
                meant = did_you_mean(str(name), known) or f"; there are: {', '.join(known)}"
                yield f"{'.'.join((*path, str(name)))}: unknown name{meant}"


def _dataclasses_in(kind: Any) -> list[type]:
    """The one dataclass that a type is, holds in a sequence or offers in a union; empty when not just one."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return [kind]
    if typing.get_origin(kind) in (Union, types.UnionType, list, tuple, Sequence, typing.Annotated):
        found = [cls for part in typing.get_args(kind) for cls in _dataclasses_in(part)]
        return found if len(found) == 1 else []
    return []


def _not_given(data: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _not_given(value, (*path, str(name)))
    elif data == REQUIRED:
        yield f"{'.'.join(path)}: must be given"


def _sentence(item: Any) -> str:
    if item["type"] == "missing":
        return "must be given"
    if item["type"] == "value_error":  # raised by the dataclass's own __post_init__
        return str(item["ctx"]["error"])
    return f"{item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}"


def _hint(faults: list[str]) -> str:
    missing = [fault.removesuffix(": must be given") for fault in faults if fault.endswith(": must be given")]
    return (
        "add " + " ".join(f"--set {name}=…" for name in missing)
        if missing
        else "correct the recipe, or the --set"
    )
