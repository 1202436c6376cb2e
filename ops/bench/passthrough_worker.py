"""A worker process that passes media through: `python -m ops.bench.passthrough_worker video|voice COST_MS`.

Everything but the conversion is the real thing; settings come from the environment as for `mirage worker`.
"""

import os
import sys

import uvloop

from ops.bench.passthrough import passthrough_factory
from ops.installation import Installation
from ops.logging import configure
from ops.media_wiring import limits_for
from ops.settings import Settings, read
from ops.wiring import open_planes, runner
from ops.worker import run_until_signalled
from schemas.names import Kind
from workers.engine_thread import EngineThread


async def main(kind: Kind, cost_s: float, settings: Settings) -> None:
    """Work until SIGTERM."""
    planes = open_planes(settings, Installation(settings.data_dir))
    thread = EngineThread()
    factory = passthrough_factory(
        thread,
        cost_s=cost_s,
        limits=limits_for(kind, settings),
        retention_ms=settings.media_retention_s * 1000,
    )
    try:
        await run_until_signalled(runner(kind, planes, settings, factory))
    finally:
        thread.close()
        await planes.close()


if __name__ == "__main__":
    from_environment = read(os.environ)
    configure(from_environment.log_level, from_environment.log_format)
    uvloop.run(main(Kind(sys.argv[1]), float(sys.argv[2]) / 1000, from_environment))
