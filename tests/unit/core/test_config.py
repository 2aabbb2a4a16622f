"""Recipes: what is read, what overrides what, and that every fault is told at once."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from lipsync_cli.core.config import build_config, dump_config, load_config, read_recipe
from lipsync_cli.core.errors import UsageError


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    warm_up: float | None = None

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError("lr must be positive")


@dataclass(frozen=True)
class Data:
    manifest: str
    batch_size: int = 8


@dataclass(frozen=True)
class Recipe:
    data: Data
    optim: Optim = field(default_factory=Optim)
    stages: tuple[Optim, ...] = ()
    objective: Literal["pretrain", "probe"] = "pretrain"


@pytest.fixture
def recipe(tmp_path):
    def write(text: str):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_file_beats_default_and_set_beats_file(recipe):
    path = recipe("data: {manifest: a.jsonl, batch_size: 2}\noptim: {lr: 0.5}\n")
    loaded = load_config(path, Recipe, ["optim.lr=3e-5", "optim.betas=[0.5, 0.6]", "data.manifest=b.jsonl"])
    assert loaded == Recipe(data=Data("b.jsonl", 2), optim=Optim(lr=3e-5, betas=(0.5, 0.6)))


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "'1e-4'"])
def test_an_exponent_without_a_dot_is_a_number(recipe, text):
    path = recipe(f"data: {{manifest: a}}\noptim: {{lr: {text}, warm_up: {text}}}\n")
    optim = load_config(path, Recipe).optim
    assert optim.lr == 1e-4 and optim.warm_up == 1e-4


def test_every_fault_at_once(recipe):
    path = recipe(
        "data: {manifest: '???', batchsize: 3, batch_size: many}\n"
        "optim: {lr: -1}\nstages: [{lrr: 1}]\nobjective: pretrian\nzzz: 1\n"
    )
    with pytest.raises(UsageError) as caught:
        load_config(path, Recipe)
    message = caught.value.message
    assert caught.value.exit_code == 2
    assert message.startswith(f"{path}: 7 faults:")
    for fault in (
        "data.manifest: must be given",
        "data.batchsize: unknown name; did you mean 'batch_size'?",
        "data.batch_size: input should be a valid integer",
        "optim: lr must be positive",
        "stages.0.lrr: unknown name; did you mean 'lr'?",
        "objective: input should be 'pretrain' or 'probe', not 'pretrian'",
        "zzz: unknown name; there are: data, optim, stages, objective",
    ):
        assert f"\n  {fault}" in message
    assert caught.value.hint == "add --set data.manifest=…"


def test_a_missing_name_is_told_by_its_path(recipe):
    with pytest.raises(UsageError, match=r"data\.manifest: must be given"):
        load_config(recipe("data: {}\n"), Recipe)


def test_what_must_be_given_can_be_given(recipe):
    assert load_config(recipe("data: {manifest: '???'}\n"), Recipe, ["data.manifest=x"]).data.manifest == "x"


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("optim.lr", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("a..b=3", "KEY=VALUE"),
        ("n.x=1", "holds a value"),
        ("n=[", "YAML"),
    ],
)
def test_a_bad_override_is_named(recipe, override, word):
    with pytest.raises(UsageError, match=word) as caught:
        read_recipe(recipe("n: 1\n"), [override])
    assert f"--set {override}" in caught.value.message


@pytest.mark.parametrize(
    ("text", "word"), [("- 1\n", "mapping"), ("a: [1\n", "not YAML"), ("a: 1\n\ta: 2\n", "not YAML")]
)
def test_what_is_no_recipe(recipe, text, word):
    with pytest.raises(UsageError, match=word):
        read_recipe(recipe(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml") as caught:
        read_recipe(tmp_path / "nowhere.yaml")
    assert caught.value.exit_code == 2


def test_what_is_dumped_loads_to_the_same(recipe):
    loaded = Recipe(
        data=Data("a: 'b'", 3), optim=Optim(lr=1e-7, warm_up=0.1), stages=(Optim(), Optim(lr=2.0))
    )
    assert load_config(recipe(dump_config(loaded)), Recipe) == loaded


def test_a_mapping_needs_no_file():
    assert build_config({"data": {"manifest": "x"}}, Recipe, "here").data.batch_size == 8
