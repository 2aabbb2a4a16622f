"""Schedule and parameter groups, by hand."""

import math

import pytest
import torch
from torch import nn

from lipsync_cli.training.optimiser import OptimConfig, build_optimiser, learning_rate

CONFIG = OptimConfig(lr=2.0, warmup_steps=10, final_lr=0.1)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.2),  # a tenth of the rise
        (4, 1.0),
        (9, 2.0),  # the peak
        (10, 2.0),
        (35, 2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))),
        (60, 2.0 * 0.55),  # half way down: mean of peak and end
        (110, 0.2),
        (500, 0.2),
    ],
)
def test_learning_rate_at_known_steps(step, rate):
    assert learning_rate(step, 110, CONFIG) == pytest.approx(rate)


def test_no_warm_up_and_no_steps_after_it():
    assert learning_rate(0, 10, OptimConfig(lr=1.0, warmup_steps=0)) == 1.0
    assert learning_rate(10, 10, OptimConfig(lr=1.0, warmup_steps=10)) == 1.0


def test_only_matrices_decay_and_frozen_weights_are_left_out():
    module = nn.ModuleDict({"linear": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "frozen": nn.Linear(2, 2)})
    module["frozen"].requires_grad_(False)
    optimiser = build_optimiser(module, OptimConfig(lr=0.5, betas=(0.8, 0.9), weight_decay=0.3))
    decayed, plain = optimiser.param_groups
    assert [p.shape for p in decayed["params"]] == [torch.Size([4, 3])] and decayed["weight_decay"] == 0.3
    assert len(plain["params"]) == 3 and plain["weight_decay"] == 0.0
    assert {group["lr"] for group in optimiser.param_groups} == {0.5} and decayed["betas"] == (0.8, 0.9)


def test_a_module_of_matrices_only_has_one_group():
    assert len(build_optimiser(nn.Linear(2, 2, bias=False), OptimConfig()).param_groups) == 1
