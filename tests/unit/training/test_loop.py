"""The one loop: killed and resumed, or on two processes, it gives the same run."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lipsync_cli.core.errors import LipsyncError, UsageError
from lipsync_cli.tasks.train import TrainRequest, run_recipe
from lipsync_cli.training import loop
from lipsync_cli.training.checkpoints import list_checkpoints
from lipsync_cli.training.log import read_log
from lipsync_cli.training.loop import LoopConfig, train
from lipsync_cli.training.optimiser import OptimConfig
from tests.prepared_clips import KEYS, SHRUNK, write_prepared
from tests.unit.training.line import LineObjective

CONFIG = LoopConfig(
    steps=12, batch_size=4, precision="no", workers=0, log_every=1, validate_every=4, checkpoint_every=3,
    optim=OptimConfig(lr=0.02, warmup_steps=2),
)  # fmt: skip
ROOT = Path(__file__).parents[3]


class Killed(BaseException):
    pass


def kill_after(monkeypatch, steps: int) -> None:
    """Let the loop do so many steps, then die as if by a signal."""
    done = 0
    real = loop._step

    def step(*args):
        nonlocal done
        if done == steps:
            raise Killed
        done += 1
        return real(*args)

    monkeypatch.setattr(loop, "_step", step)


def losses(run: Path) -> list[dict[str, Any]]:
    """Log without what depends on the clock."""
    lines = read_log(run / "log.jsonl")
    return [{k: v for k, v in line.items() if k != "examples_per_s"} for line in lines]


def test_a_run_leaves_what_it_promises(tmp_path):
    objective = LineObjective()
    result = train(objective, CONFIG, tmp_path, cpu=True)
    lines = read_log(tmp_path / "log.jsonl")
    trained = [line for line in lines if line["event"] == "train"]
    assert [line["step"] for line in trained] == list(range(1, 13))
    assert [line["step"] for line in lines if line["event"] == "validate"] == [4, 8, 12]
    assert trained[-1]["loss"] < trained[0]["loss"]
    assert [folder.name for folder in list_checkpoints(tmp_path)] == [f"step_{s:07d}" for s in (6, 9, 12)]
    assert objective.seen == list(range(48)), "each example once, in order"
    assert objective.validations == 3 and result.steps == 12
    assert result.metrics == json.loads((tmp_path / "model" / "metrics.json").read_text())


def test_the_logged_loss_is_the_mean_since_the_last_line(tmp_path):
    train(LineObjective(), CONFIG, tmp_path / "each", cpu=True)
    train(LineObjective(), replace(CONFIG, log_every=5), tmp_path / "fifth", cpu=True)
    each = [line["loss"] for line in read_log(tmp_path / "each" / "log.jsonl") if line["event"] == "train"]
    fifth = {
        line["step"]: line["loss"]
        for line in read_log(tmp_path / "fifth" / "log.jsonl")
        if line["event"] == "train"
    }
    wanted = {5: sum(each[:5]) / 5, 10: sum(each[5:10]) / 5, 12: sum(each[10:]) / 2}
    assert fifth == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("killed_after", [2, 7, 10])
def test_killed_and_resumed_is_uninterrupted(tmp_path, monkeypatch, dropout, killed_after):
    train(LineObjective(dropout), CONFIG, tmp_path / "whole", cpu=True)
    kill_after(monkeypatch, killed_after)
    with pytest.raises(Killed):
        train(LineObjective(dropout), CONFIG, tmp_path / "resumed", cpu=True)
    monkeypatch.undo()
    resumed = LineObjective(dropout)
    train(resumed, CONFIG, tmp_path / "resumed", cpu=True)
    assert resumed.seen[0] == killed_after // 3 * 3 * 4
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    whole, again = (torch.load(tmp_path / name / "model" / "weights.pt") for name in ("whole", "resumed"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name


def test_a_finished_run_trains_no_more(tmp_path):
    train(LineObjective(), CONFIG, tmp_path, cpu=True)
    again = LineObjective()
    result = train(again, CONFIG, tmp_path, cpu=True)
    assert again.seen == [] and again.validations == 1 and result.metrics


def test_workers_make_the_same_examples(tmp_path):
    train(LineObjective(), CONFIG, tmp_path / "none", cpu=True)
    train(LineObjective(), replace(CONFIG, workers=1), tmp_path / "one", cpu=True)
    assert losses(tmp_path / "none") == losses(tmp_path / "one")


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    with pytest.raises(LipsyncError, match=r"loss became nan by step 6") as caught:
        train(LineObjective(poison_at=21), CONFIG, tmp_path, cpu=True)
    assert caught.value.exit_code == 1 and "lr" in caught.value.hint


def test_a_checkpoint_never_holds_what_is_not_a_number(tmp_path):
    config = replace(CONFIG, log_every=100)
    with pytest.raises(LipsyncError, match="nan"):
        train(LineObjective(poison_at=21), config, tmp_path, cpu=True)
    assert [folder.name for folder in list_checkpoints(tmp_path)] == ["step_0000003"]


def test_a_batch_that_does_not_divide_is_refused(tmp_path, monkeypatch):
    class Three:
        num_processes = 3

        def __init__(self, **_):
            pass

    monkeypatch.setattr(loop, "Accelerator", Three)
    with pytest.raises(UsageError, match="batch_size 4 does not divide over 3") as caught:
        train(LineObjective(), CONFIG, tmp_path)
    assert caught.value.exit_code == 2 and caught.value.hint == "--set loop.batch_size=6"


def test_a_long_run_starts_at_once(tmp_path):
    """The numbers of the examples of 400 000 large steps would not fit into memory."""

    class Enough(Exception):
        pass

    class Impatient(LineObjective):
        def example(self, index):
            if index:
                raise Enough
            return super().example(index)

    config = replace(CONFIG, steps=10**9, batch_size=10**4)
    failed: list[BaseException] = []

    def start():
        try:
            train(Impatient(), config, tmp_path, cpu=True)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(20)
    assert failed and isinstance(failed[0], Enough)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("prepared"), KEYS)


def pretrain(clips: Path, run: Path) -> None:
    loop_values = ("loop.steps=5", "loop.log_every=1", "loop.validate_every=3", "loop.checkpoint_every=2")
    run_recipe(
        TrainRequest(
            "pretrain", "synclipmae_tiny", run, (f"data.manifest={clips}", *SHRUNK, *loop_values), cpu=True
        )
    )


def test_pretraining_resumes_bit_for_bit(clips, tmp_path, monkeypatch):
    pretrain(clips, tmp_path / "whole")
    kill_after(monkeypatch, 3)
    with pytest.raises(Killed):
        pretrain(clips, tmp_path / "resumed")
    monkeypatch.undo()
    pretrain(clips, tmp_path / "resumed")
    whole, again = (
        (tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "resumed")
    )
    assert whole == again
    assert losses(tmp_path / "whole") == losses(tmp_path / "resumed")
    assert len({line["loss"] for line in losses(tmp_path / "whole") if line["event"] == "train"}) == 5


def test_a_run_of_another_recipe_is_not_gone_on_with(clips, tmp_path):
    (tmp_path / "recipe.yaml").write_text("objective: other\n")
    with pytest.raises(UsageError, match="another recipe") as caught:
        pretrain(clips, tmp_path)
    assert caught.value.exit_code == 2


TWO = """
import sys
from pathlib import Path
from tests.unit.training.test_loop import CONFIG
from tests.unit.training.line import LineObjective
from lipsync_cli.training.loop import train
objective = LineObjective()
result = train(objective, CONFIG, Path(sys.argv[1]), cpu=True)
print("DONE", objective.validations, len(objective.seen))
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_two_processes_give_the_curve_of_one(tmp_path):
    train(LineObjective(), CONFIG, tmp_path / "one", cpu=True)
    script = tmp_path / "two.py"
    script.write_text(TWO)
    # on CPUs `accelerate launch` starts several processes through MPI only; torch's launcher sets the same variables
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1",
        "--master_port", str(free_port()), str(script), str(tmp_path / "two"),
    ]  # fmt: skip
    done = subprocess.run(
        launch,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(line for line in done.stdout.splitlines() if "DONE" in line) == ["DONE 0 24", "DONE 3 24"]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 15
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if isinstance(a[name], float):
                assert math.isclose(a[name], b[name], rel_tol=1e-4, abs_tol=1e-6), (a, b)
    assert [f.name for f in list_checkpoints(tmp_path / "two")] == [f"step_{s:07d}" for s in (6, 9, 12)]
