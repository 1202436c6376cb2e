"""A worker process with a pass-through engine: `python -m ops.bench.passthrough_worker video|voice COST_MS`.

Everything but the engine is the real thing; settings come from the environment as for `mirage worker`.
"""

import os
import sys

import uvloop

from ops.bench.passthrough import PassthroughFaces, PassthroughVoices
from ops.installation import Installation
from ops.logging import configure
from ops.settings import Settings, read
from ops.wiring import open_planes, runner, video_factory, voice_factory
from ops.worker import run_until_signalled
from schemas.names import Kind
from workers.engine_thread import EngineThread


async def main(kind: Kind, cost_s: float, settings: Settings) -> None:
    """Work until SIGTERM."""
    planes = open_planes(settings, Installation(settings.data_dir))
    thread = EngineThread()
    factory = (
        video_factory(planes, settings, PassthroughFaces(cost_s), thread)
        if kind is Kind.VIDEO
        else voice_factory(planes, settings, PassthroughVoices(cost_s), thread)
    )
    try:
        await run_until_signalled(runner(kind, planes, settings, factory))
    finally:
        thread.close()
        await planes.close()


if __name__ == "__main__":
    settings = read(os.environ)
    configure(settings.log_level, settings.log_format)
    uvloop.run(main(Kind(sys.argv[1]), float(sys.argv[2]) / 1000, settings))
