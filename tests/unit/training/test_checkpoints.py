"""Checkpoints appear whole or not at all; the log forgets what the checkpoint does not know."""

import json
import os

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lipsync_cli.training.checkpoints import list_checkpoints, load_latest, save_checkpoint
from lipsync_cli.training.log import RunLog, read_log


def prepared():
    accelerator = Accelerator(cpu=True)
    module = nn.Linear(2, 1)
    return accelerator, accelerator.prepare(module, torch.optim.AdamW(module.parameters()))[0]


def fill(module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_newest_is_loaded_and_old_ones_are_removed(tmp_path):
    accelerator, module = prepared()
    for step in (5, 10, 15, 100):
        fill(module, step)
        save_checkpoint(accelerator, tmp_path, step, keep=2)
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step_0000015", "step_0000100"]
    fill(module, 0)
    assert load_latest(accelerator, tmp_path) == 100
    assert module.weight[0, 0].item() == 100


def test_a_run_without_checkpoints_starts_at_nothing(tmp_path):
    accelerator, _ = prepared()
    assert load_latest(accelerator, tmp_path) == 0


def test_killed_between_saving_and_renaming(tmp_path, monkeypatch):
    accelerator, module = prepared()
    fill(module, 1)
    save_checkpoint(accelerator, tmp_path, 1, keep=1)
    fill(module, 2)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(accelerator, tmp_path, 2, keep=1)
    monkeypatch.undo()
    assert any("part" in folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert load_latest(accelerator, tmp_path) == 1 and module.weight[0, 0].item() == 1
    fill(module, 3)
    save_checkpoint(accelerator, tmp_path, 2, keep=1)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step_0000002"]


def test_half_a_last_line_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "train", "step": 1}\n{"event": "train", "step": 2}\n{"event": "tra')
    assert [line["step"] for line in read_log(path)] == [1, 2]


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3, 4):
        log.write("train", step, {"loss": step / 2})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "tr')
    log = RunLog(tmp_path, 2)
    log.write("train", 3, {"loss": 9.0})
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.5), (2, 1.0), (3, 9.0)]
