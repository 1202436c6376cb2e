"""The ingress application, put together from what it is given."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ingress import background
from ingress.auth import Authority
from ingress.body_limit import BodyLimit
from ingress.failures import body_of, headers_of, status_of
from ingress.hub import Hub
from ingress.identities_api import identities_router
from ingress.life import sweep
from ingress.login_api import login_router
from ingress.metrics import EventWriter
from ingress.pages import StrictHeaders, mount_pages
from ingress.services import Services
from ingress.sessions_api import sessions_router
from ingress.settings import IngressSettings
from ingress.stream import stream_router
from ingress.tokens import KeyRing
from schemas.bus.base import Planes
from schemas.clock import Clock
from schemas.errors import MirageError
from schemas.identity_store import Enroller, IdentityStore
from schemas.session_store import SessionStore

_SHOWN_ERRORS, _SHOWN_CHARS = 5, 100
"""How much of what was wrong with a body the answer names."""


def create_app(
    *,
    planes: Planes,
    enroller: Enroller,
    settings: IngressSettings,
    keys: KeyRing,
    clock: Clock,
    web_root: Path | None = None,
    on_fatal: background.OnFatal = background.end_process,
) -> FastAPI:
    """Return the application. It opens nothing by itself, and closes nothing that it was given.

    With `web_root` it serves the page too. Background work runs within the ASGI lifespan; if it
    ever fails, `on_fatal` is called: without it the service would look well and do half of its work.
    """
    services = Services(
        planes=planes,
        settings=settings,
        clock=clock,
        authority=Authority(keys=keys, events=planes.events, settings=settings, clock=clock),
        sessions=SessionStore(planes, media_retention_s=settings.media_retention_s, event_ttl_s=settings.event_ttl_s),
        identities=IdentityStore(planes.events),
        enroller=enroller,
        hub=Hub(planes, clock, max_connections=settings.max_connections, on_fatal=on_fatal),
        metrics=EventWriter(planes.events),
        facts=EventWriter(planes.events),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        work = {
            "metrics": services.metrics.run(),
            "facts": services.facts.run(),
            "sweep": sweep(planes.events, services.sessions, every_s=settings.sweep_s),
        }
        tasks = [background.start(each, name=name, on_fatal=on_fatal) for name, each in work.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await services.facts.drain()
            await services.metrics.drain()

    app = FastAPI(title="Mirage ingress", lifespan=lifespan, openapi_url=None)
    app.add_middleware(BodyLimit)
    app.add_middleware(StrictHeaders)  # around the one before it
    app.add_exception_handler(MirageError, _mirage_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    for router in (login_router, identities_router, sessions_router, stream_router):
        app.include_router(router(services))
    if web_root is not None:
        mount_pages(app, web_root)
    return app


async def _mirage_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MirageError)  # noqa: S101  # registered for nothing else
    return JSONResponse(body_of(error), status_of(error), headers_of(error))


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for nothing else
    # Names what was wrong, never echoes the value: it may be a secret in the wrong place.
    wrong = (
        f"{'.'.join(map(str, each['loc'][1:]))[:_SHOWN_CHARS] or 'body'}: {each['msg'][:_SHOWN_CHARS]}"
        for each in error.errors()[:_SHOWN_ERRORS]
    )
    return JSONResponse({"code": "invalid", "detail": "; ".join(wrong)}, 422)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
    return JSONResponse({"code": code, "detail": str(error.detail)}, error.status_code, error.headers)
