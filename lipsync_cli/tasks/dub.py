"""`lipsync dub`: a clip whose mouth follows new speech or another performance; everything else is the original."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lipsync_cli import __version__
from lipsync_cli.core.errors import LipsyncError, ResourceError
from lipsync_cli.core.output import check_output
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.dubbing.engine import DubEngine
from lipsync_cli.dubbing.render import Job
from lipsync_cli.dubbing.work import WorkFolder
from lipsync_cli.media.c2pa_manifest import C2paSigner, load_signer
from lipsync_cli.media.encode import EncodeSettings
from lipsync_cli.media.provenance import file_sha256
from lipsync_cli.tasks.dub_drives import Drives, Telling
from lipsync_cli.tasks.dub_finish import finish
from lipsync_cli.tasks.dub_pieces import render_pieces
from lipsync_cli.tasks.dub_plan import Clip, Ready, make_ready, open_clip, preview_end
from lipsync_cli.tasks.dub_request import DubRequest
from lipsync_cli.tasks.dub_result import DubResult, chosen_faces, planned
from lipsync_cli.tasks.dub_sync import SyncCheck
from lipsync_cli.tasks.engines import ENGINES, load_engine

LoadEngine = Callable[[str, str, Mapping[str, str]], DubEngine]  # name, device, options
PREVIEWED_S = 60  # clips up to this length are measured before a preview too
KEEP_LOOK_S = 60  # of a longer clip the look is kept when a dub fails, for the next try


def dub(request: DubRequest, *, load: LoadEngine | None = None, progress: Progress = SILENT) -> DubResult:
    """Dub `request.clip`; the clip is never touched.

    load: gives the engine; None = those that ship with lipsync.
    Raises: UsageError, InputError, WeightsError, ResourceError.
    """
    request.check()
    if load is None and "/" not in request.engine and request.engine not in ENGINES:
        load_engine(request.engine, request.device, {})  # says which there are, before any work is done
    clip = open_clip(request.clip)
    for target in request.targets:
        check_output(target, request.inputs, overwrite=request.overwrite)
    settings = EncodeSettings.follow(
        clip.info,
        request.target,
        video_codec=request.video_codec,
        quality=request.quality,
        pixel_format=request.pixel_format,
    )
    signer = None
    if request.wants_c2pa:
        signer = load_signer(request.c2pa_certificate, request.c2pa_key, request.target)
    sync = SyncCheck(request.clip, request.device, progress)
    with _work(request, clip) as work, _memory(request):
        engine = None
        if (
            not request.dry_run
        ):  # first of all: weights that are missing should not be found so after an hour's look
            options = {"adapt": request.adapt, **request.engine_options}
            engine = (load or load_engine)(request.engine, request.device, options)
        ready = make_ready(request, clip, work, sync.source, progress)
        if engine is None:
            return planned(request, ready, settings)
        return _dub(request, ready, settings, engine, work, sync, signer, progress)


@contextmanager
def _work(request: DubRequest, clip: Clip) -> Iterator[WorkFolder]:
    """The folder for what is finished: it goes when the work is done, or when it failed with little to keep."""
    if request.dry_run:
        with tempfile.TemporaryDirectory(prefix="lipsync-") as folder:
            yield WorkFolder(Path(folder))
        return
    work = WorkFolder.beside(request.target)
    try:
        yield work
    except LipsyncError:
        if not work.has_pieces and clip.info.duration < KEEP_LOOK_S:
            work.remove()
        raise
    work.remove()


@contextmanager
def _memory(request: DubRequest) -> Iterator[None]:
    """Say what to lower when memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ResourceError(
            f"{request.clip}: memory ran out with the engine {request.engine}.",
            "lower what it needs: --adapt off, --device cpu, or --engine flashlips-tiny; what is finished is kept",
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    on_device = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return isinstance(error, MemoryError) or on_device or "can't allocate memory" in str(error)


def _dub(
    request: DubRequest,
    ready: Ready,
    settings: EncodeSettings,
    engine: DubEngine,
    work: WorkFolder,
    sync: SyncCheck,
    signer: C2paSigner | None,
    progress: Progress,
) -> DubResult:
    plan, look = ready.plan, ready.look
    drives = Drives(engine, work, progress)
    drives.check(plan.segments)
    work.start(_job_record(request, ready, settings, engine))
    with Telling(progress) as tell:
        job = Job(request.clip, look, plan, engine, drives.make, tell)
        started = time.perf_counter()
        pieces, resumed = render_pieces(job, settings, work, progress)
    made, spent_s = len(plan.reel) - resumed, time.perf_counter() - started
    finished = finish(request, ready, settings, pieces, engine.spec.model, signer, progress)
    chosen = chosen_faces(ready)
    # A preview is to be quick: a long clip is not measured for it.
    quick = preview_end(request, ready.clip) is not None and ready.clip.info.duration > PREVIEWED_S
    before = None if quick else sync.before(look, chosen)
    after = sync.after(request.target, look, chosen)
    answer = planned(request, ready, settings)
    return replace(
        answer,
        model=engine.spec.model,
        resumed_frames=resumed,
        frames_per_s=made / spent_s if made else None,
        source_sync=before,
        result_sync=after,
        sidecar=finished.sidecar,
        outputs=finished.outputs,
        warnings=answer.warnings + finished.warnings,
    )


def _job_record(
    request: DubRequest, ready: Ready, settings: EncodeSettings, engine: DubEngine
) -> dict[str, object]:
    """All that decides the bytes of a piece: a piece of another record is not this job's."""
    plan = ready.plan
    return {
        "lipsync": __version__,
        "picture": ready.clip.picture.sha256,
        "engine": engine.spec.model,
        "adapt": request.adapt,
        "options": sorted(request.engine_options.items()),
        "device": request.device,
        "encode": repr(settings),
        "pictures": len(plan.reel),
        "order": hashlib.sha256(plan.reel.numbers.tobytes()).hexdigest(),
        "segments": [
            [str(s.start), str(s.end), file_sha256(s.speech), s.by_video, str(s.speech_end), s.seed, s.tracks]
            for s in plan.segments
        ],
    }
