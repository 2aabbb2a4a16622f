"""How fast, and in how much memory, `lipsync dub` renders 1080p25 H.264 video on two cores.

    python benchmarks/dub.py                       # 1 and 5 minutes, the embedded engine without adaptation
    python benchmarks/dub.py --engine pipeline     # no network: what everything around it costs
    python benchmarks/dub.py --minutes 1 --json

The video is that of benchmarks/offset.py: examples/talking_photo.mp4 scaled into 1920×1080, over and over; its own
sound drives the mouth. Each length runs in a process of its own on two cores, so that its peak memory is its own.
"decode + encode" reads every frame and writes it with the same settings: the limit that no pipeline which touches the
picture can beat. Processor seconds stand beside wall seconds because a busy machine changes the second and hardly the
first. Preparing the engine (and adapting it) is shown and not counted.

Targets: at least 10 frames a second; everything but the networks at most 1.5× decode + encode, beyond these two; memory
that does not grow with the clip.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from offset import CORES, RATE, _cost, _peak_mb, write_long_clip

PIPELINE = "pipeline"
STAGES = ("faces", "mouth", "writing", "sync before and after")


@dataclass
class Clock:
    """Wall and processor seconds of each stage, as the progress tells them."""

    wall_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rendered: bool = False

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "frames") -> Iterator[Clock]:
        kind = next((known for known in STAGES if name.startswith(known)), "")
        if kind == "faces" and self.rendered:
            kind = "sync before and after"
        self.rendered |= kind == "mouth"
        wall, cpu = time.perf_counter(), time.process_time()
        yield self
        if kind:
            self.wall_s[kind] += time.perf_counter() - wall
            self.cpu_s[kind] += time.process_time() - cpu

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


class Timed:
    """An engine whose time is counted."""

    def __init__(self, engine) -> None:
        self._engine, self.spec, self.align, self.release = engine, engine.spec, engine.align, engine.release
        self.prepare_s, self.generate_cpu_s = 0.0, 0.0

    def prepare(self, *args) -> None:
        start = time.perf_counter(), time.process_time()
        self._engine.prepare(*args)
        self.prepare_s += time.perf_counter() - start[0]
        self.prepare_cpu_s = time.process_time() - start[1]

    def generate(self, crops):
        start = time.thread_time()
        made = self._engine.generate(crops)
        self.generate_cpu_s += time.thread_time() - start
        return made


class NoNetwork:
    """Gives crops back as they are."""

    def __init__(self) -> None:
        from lipsync_cli.dubbing.engine import EngineSpec

        self.spec = EngineSpec(PIPELINE, PIPELINE, 192, frozenset({"audio"}), 16, 0, True, 8)

    def align(self, landmarks, times_s):
        from lipsync_cli.faces.align import CropGeometry, fit_similarity, smooth_matrices

        return smooth_matrices(fit_similarity(landmarks, CropGeometry(self.spec.side_px)), times_s, 0.08)

    def prepare(self, *_) -> None: ...

    def generate(self, crops):
        return crops.images

    def release(self) -> None: ...


def measure(path: Path, engine: str) -> dict:
    """Everything about one clip."""
    import torch

    from lipsync_cli.faces.mesh import FaceMesh
    from lipsync_cli.media.encode import EncodeSettings, PieceWriter
    from lipsync_cli.media.native import read_native
    from lipsync_cli.media.probe import probe
    from lipsync_cli.tasks.dub import dub
    from lipsync_cli.tasks.dub_request import DubRequest
    from lipsync_cli.tasks.engines import load_engine

    torch.set_num_threads(1)  # decoding, the network and writing go on beside each other
    mesh_cpu_s, read = [0.0], FaceMesh.read

    def timed_read(*args):
        start = time.thread_time()
        made = read(*args)
        mesh_cpu_s[0] += time.thread_time() - start
        return made

    FaceMesh.read = timed_read
    made: list[Timed] = []

    def load(name: str, device: str, options) -> Timed:
        made.append(Timed(NoNetwork() if name == PIPELINE else load_engine(name, device, {"adapt": "off"})))
        return made[0]

    clock, result = Clock(), []
    out = path.with_name("out.mp4")
    request = DubRequest(clip=path, audio=path, output=out, engine=engine, device="cpu", adapt="off")
    whole = _cost(lambda: result.append(dub(request, load=load, progress=clock)))
    peak_mb = _peak_mb()
    settings = EncodeSettings.follow(probe(path), out)

    def copy() -> None:
        with PieceWriter(path.with_name("copy.nut"), settings) as writer:
            for native in read_native(path):
                writer.write(native.picture, native.time)

    limit = _cost(copy)
    frames, timed = result[0].frames, made[0]
    looked = clock.cpu_s["faces"] - mesh_cpu_s[0] * _share_of_look(clock)
    drawn = clock.cpu_s["mouth"] - timed.generate_cpu_s - timed.prepare_cpu_s
    around = looked + drawn + clock.cpu_s["writing"]
    spent_s = sum(clock.wall_s[stage] for stage in STAGES[:3]) - timed.prepare_s
    return {
        "seconds": frames / float(RATE),
        "frames": frames,
        "edited": result[0].edited,
        "frames_per_s": frames / spent_s,
        "rendered_frames_per_s": frames / (clock.wall_s["mouth"] - timed.prepare_s),
        "whole": whole,
        "decode_and_encode": limit,
        "stages_wall_s": clock.wall_s,
        "stages_cpu_s": clock.cpu_s,
        "network_cpu_s": timed.generate_cpu_s,
        "face_networks_cpu_s": mesh_cpu_s[0],
        "prepare_s": timed.prepare_s,
        "overhead": (around - limit["cpu_s"]) / limit["cpu_s"],
        "peak_mb": peak_mb,
    }


def _share_of_look(clock: Clock) -> float:
    """Of the landmarks that were read: the two sync measurements read every third frame, the look every one."""
    return 1 / (1 + 2 / 3) if clock.cpu_s["sync before and after"] else 1.0


def report(row: dict) -> str:
    per = 1000 / row["frames"]
    limit = row["decode_and_encode"]
    cpu_s = sum(row["stages_cpu_s"][stage] for stage in STAGES[:3])
    lines = [
        f"{row['seconds'] / 60:.1f} min: {row['frames_per_s']:.1f} frames/s by the clock,"
        f" {CORES * row['frames'] / cpu_s:.1f} if both cores were free;"
        f" rendering alone {row['rendered_frames_per_s']:.1f};"
        f" beyond decode + encode, all but the networks takes {row['overhead']:.2f}× as much again;"
        f" peak {row['peak_mb']:.0f} MB; engine ready in {row['prepare_s']:.1f} s",
        f"  {'decode + encode':22s} {limit['wall_s'] * per:7.1f} ms wall {limit['cpu_s'] * per:7.1f} ms processor",
    ]
    for stage in STAGES:
        wall, cpu = row["stages_wall_s"][stage] * per, row["stages_cpu_s"][stage] * per
        lines.append(f"  {stage:22s} {wall:7.1f} ms wall {cpu:7.1f} ms processor")
    lines.append(f"  {'of it the network':22s} {'':15s} {row['network_cpu_s'] * per:7.1f} ms processor")
    return "\n".join(lines)


def run_alone(path: Path, engine: str) -> dict:
    """`measure` in a fresh process that may use two cores."""
    command = [sys.executable, __file__, "--clip", str(path), "--engine", engine]
    environment = {**os.environ, "OMP_NUM_THREADS": str(CORES)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Speed and memory of `lipsync dub` on 1080p25 video, two cores."
    )
    parser.add_argument(
        "--engine", default="flashlips-tiny", help=f"a name, a folder, or '{PIPELINE}' for none"
    )
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.clip:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        print(json.dumps(measure(wanted.clip, wanted.engine)))
        return
    for minutes in wanted.minutes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.mp4"
            write_long_clip(path, minutes * 60)
            row = run_alone(path, wanted.engine)
        print(json.dumps(row) if wanted.json else report(row), flush=True)


if __name__ == "__main__":
    main()
