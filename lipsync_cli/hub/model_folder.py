"""A model, wherever it comes from, as files on this machine.

Sources are explicit: a catalogue name, `hf:org/repo@commit`, or a path that contains a `/`. Our own models
are a folder: `config.json` (`format_version`, `network`, `licence`, `config`, `preprocess`),
`model.safetensors`, `SHA256SUMS` and a card, `README.md`. Published ones are the files of their authors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from lipsync_cli.core.errors import WeightsError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.hub import download
from lipsync_cli.hub.catalogue import ModelEntry, read_catalogue
from lipsync_cli.hub.checksums import check_sum, model_files, read_sums, write_sums

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
EMBEDDED = "embedded"
CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"
# what is no pickle at all makes the unpickler stumble anywhere
UNPICKLING_ERRORS = (RuntimeError, EOFError, ValueError, OSError, LookupError, AttributeError, TypeError)


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model that is on this machine.

    name: how the user named it.  path: the folder.  network: the closed name of the code that reads it.
    config, preprocess: from config.json; empty for a published model, whose authors have no such file.
    files: name → path.  licence, origin: for the record (`repo@commit`, `embedded`, or the path).
    """

    name: str
    path: Path
    network: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    files: Mapping[str, Path]
    licence: str
    origin: str

    def file(self, name: str) -> Path:
        """The path of one file. Raises: WeightsError when the model has no such file."""
        if name not in self.files:
            raise WeightsError(f"{self.path}: the model has no {name}.", "lipsync models list")
        return self.files[name]

    @property
    def weights(self) -> Path:
        """`model.safetensors`. Raises: WeightsError when the model has none."""
        return self.file(WEIGHTS_NAME)


def load_model_folder(source: str | Path, *, network: str | None = None) -> ModelFolder:
    """Find a model on this machine; downloads nothing.

    Files of a folder with `SHA256SUMS` are held to it. Published files were held to the catalogue when they
    were pulled, and are held to their size here: hashing gigabytes at every start takes longer than the run.
    network: the one the caller can read.
    Raises: WeightsError (unknown name, not on this machine, wrong checksum, another network).
    """
    name = str(source)
    if name.startswith("hf:"):
        folder = _from_hub_folder(name)
    elif isinstance(source, Path) or "/" in name:
        folder = _read_folder(name, Path(name), origin=name)
    else:
        folder = _from_catalogue(name)
    if network is not None and folder.network != network:
        message = f"{name}: this is a model of '{folder.network}', where one of '{network}' is needed."
        raise WeightsError(message, "lipsync models list")
    return folder


def is_present(entry: ModelEntry) -> bool:
    """Whether the files of a catalogue entry are on this machine; does not hash them."""
    if entry.embedded:
        return (entry.folder / CONFIG_NAME).is_file()
    return download.cached_files(download.describe(entry.name)) is not None


def verify(source: str, progress: Progress = SILENT) -> ModelFolder:
    """`load_model_folder`, and hash every file that has a hash on record.

    Raises: WeightsError naming the file that differs.
    """
    folder = load_model_folder(source)
    if folder.origin not in (EMBEDDED, folder.name):  # published: on record in the catalogue or the lock
        download.check_files(download.describe(source), folder.files, progress)
    return folder


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU: safetensors, or a published pickle through `weights_only=True`.

    A pickle that wraps its tensors keeps its wrapping (`{"state_dict": …}`): converting is the room's work.
    Raises: WeightsError when the file is missing or damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: the file is missing.", "lipsync models list") from error
    except (SafetensorError, UnpicklingError, *UNPICKLING_ERRORS) as error:
        raise WeightsError(
            f"{path}: damaged weights ({type(error).__name__}).", "lipsync models verify"
        ) from error


def write_model_folder(
    path: Path,
    *,
    network: str,
    config: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    licence: str,
) -> None:
    """Write a model folder with its `SHA256SUMS`, all but its card; the folder is created if need be."""
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    described = {
        "format_version": FORMAT_VERSION,
        "network": network,
        "licence": licence,
        "config": dict(config),
        "preprocess": dict(preprocess),
    }
    (path / CONFIG_NAME).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path / WEIGHTS_NAME)
    write_sums(path)


def _from_catalogue(name: str) -> ModelFolder:
    entry = read_catalogue().get(name)
    if entry is not None and entry.embedded:
        if not is_present(entry):
            raise WeightsError(
                f"{name}: this installation lacks the model.", "pip install --force-reinstall lipsync"
            )
        return _read_folder(name, entry.folder, origin=EMBEDDED)
    published, files = _cached(name)
    return ModelFolder(
        name=name,
        path=next(iter(files.values())).parent,
        network=read_catalogue()[name].network,
        config={},
        preprocess={},
        files=files,
        licence=published.licence,
        origin=f"{published.repo}@{published.commit}",
    )


def _from_hub_folder(source: str) -> ModelFolder:
    published, files = _cached(source)
    return _read_folder(source, files[CONFIG_NAME].parent, origin=f"{published.repo}@{published.commit}")


def _cached(source: str) -> tuple[download.Published, dict[str, Path]]:
    published = download.describe(source)
    files = download.cached_files(published)
    if files is None:
        raise WeightsError(f"{source}: the model is not on this machine.", f"lipsync models pull {source}")
    return published, files


def _read_folder(name: str, path: Path, origin: str) -> ModelFolder:
    described = _read_config(path)
    sums = read_sums(path)
    repair = "lipsync models list" if origin != EMBEDDED else "pip install --force-reinstall lipsync"
    for file_name, digest in sums.items():
        check_sum(path / file_name, digest, hint=repair)
    return ModelFolder(
        name=name,
        path=path,
        network=described["network"],
        config=described.get("config", {}),
        preprocess=described.get("preprocess", {}),
        files=model_files(path),
        licence=described.get("licence", "none stated"),
        origin=origin,
    )


def _read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG_NAME
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        version, network = described["format_version"], described["network"]
    except OSError as error:
        raise WeightsError(
            f"{file}: cannot be read; a model is a folder with config.json.", "lipsync models list"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{file}: not the config.json of a lipsync model.", "lipsync models list"
        ) from error
    if version != FORMAT_VERSION or not isinstance(network, str):
        raise WeightsError(
            f"{file}: format_version {version} is not {FORMAT_VERSION}.", "pip install --upgrade lipsync"
        )
    return described
