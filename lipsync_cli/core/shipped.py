"""The data that travels with the package: recipes and model folders. Found by looking, never by a list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from lipsync_cli.core.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(kind: Literal["recipes", "models"]) -> Path:
    """Where `kind` lives: inside an installed package, or at the repository root of an editable install."""
    installed = PACKAGE / f"_{kind}"
    return installed if installed.is_dir() else PACKAGE.parent / kind


def list_recipes(verb: str | None = None) -> dict[str, Path]:
    """Every recipe that ships, `<verb>/<name>` → file, by name; only those of `verb` when it is given."""
    root = shipped_folder("recipes")
    found = {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if verb is None or name.startswith(f"{verb}/")}


def find_recipe(verb: str, name: str) -> Path:
    """The file of a recipe. name: of one that ships for `verb`, or a path to a YAML file.

    Raises: UsageError when there is none.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"{path}: no such recipe.", f"give a file, or one of: {_names(verb)}")
        return path
    known = list_recipes(verb)
    if f"{verb}/{name}" not in known:
        short = [key.partition("/")[2] for key in known]
        raise UsageError(
            f"no recipe '{name}' for '{verb}'{did_you_mean(name, short)}.", f"use one of: {_names(verb)}"
        )
    return known[f"{verb}/{name}"]


def _names(verb: str) -> str:
    return ", ".join(key.partition("/")[2] for key in list_recipes(verb)) or "(none ship for this verb)"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known word, or "" when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
