"""The benchmark runs, and its table has a row for every part and setting."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[3] / "benchmarks" / "latentsync.py"


@pytest.fixture
def benchmark(monkeypatch):
    import sys

    spec = importlib.util.spec_from_file_location("latentsync_benchmark", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_it_measures_parts_and_settings(benchmark, monkeypatch, capsys):
    every = benchmark.settings(torch.device("cpu"), True)
    assert len({setting.name for setting in every}) == len(every) == 8
    assert [setting.compiled for setting in every] == [False] * 7 + [True]
    few = [replace(setting, config=replace(setting.config, steps=2)) for setting in (every[0], every[6])]
    monkeypatch.setattr(benchmark, "FRAME_PX", (640, 480))
    monkeypatch.setattr(benchmark, "settings", lambda device, compiled: few)
    assert benchmark.main(["--size", "tiny", "--device", "cpu", "--repeats", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["parts_ms"]) == 8 and all(ms > 0 for ms in found["parts_ms"].values())
    assert list(found["settings"]) == [setting.name for setting in few]
    for row in found["settings"].values():
        assert row["ms_per_window"] > 0 and row["memory_gb"] is None
    plain, cached = found["settings"].values()
    # 16 frames of which 12 are new, and 52 of which 48 are
    assert plain["frames_per_s"] == pytest.approx(12_000 / plain["ms_per_window"])
    assert cached["frames_per_s"] == pytest.approx(48_000 / (4 * cached["ms_per_window"]))
    shown = benchmark.show(found)
    assert all(name in shown for name in [*found["parts_ms"], *found["settings"]])
