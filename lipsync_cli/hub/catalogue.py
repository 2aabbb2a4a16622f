"""The models that have a name, read from `catalogue.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.core.shipped import did_you_mean, shipped_folder


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a published model. sha256, size_bytes: None where nobody has recorded them."""

    name: str
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One named model; the fields are explained at the top of `catalogue.toml`."""

    name: str
    kind: str
    network: str
    licence: str
    url: str
    description: str
    embedded: bool = False
    repo: str | None = None
    commit: str | None = None
    files: tuple[FileEntry, ...] = ()

    @property
    def folder(self) -> Path:
        """Where an embedded model lives, whether or not it is there."""
        return shipped_folder("models") / self.name


@cache
def read_catalogue() -> Mapping[str, ModelEntry]:
    """Name → entry, in the order of the file."""
    with Path(__file__).with_name("catalogue.toml").open("rb") as file:
        tables = tomllib.load(file)
    return MappingProxyType({name: _entry(name, table) for name, table in tables.items()})


def find_entry(name: str) -> ModelEntry:
    """The entry of that name. Raises: WeightsError when there is none, saying which was probably meant."""
    catalogue = read_catalogue()
    if name not in catalogue:
        raise WeightsError(
            f"no model is called '{name}'{did_you_mean(name, catalogue)}.", "lipsync models list"
        )
    return catalogue[name]


def _entry(name: str, table: dict) -> ModelEntry:
    files = tuple(FileEntry(**file) for file in table.pop("files", ()))
    return ModelEntry(name=name, files=files, **table)
