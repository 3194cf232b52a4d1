"""Start the server, keep it running, and end it without losing an answer."""

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from queue import Queue
from socket import socket

import uvicorn
from starlette.types import ASGIApp

from nacre.base.errors import InputError, NacreError
from nacre.records import Weights
from nacre.serve.app import make_admin_app, make_app
from nacre.serve.assembly import LedgerSource, assembled
from nacre.serve.engines import Engine, engine_class
from nacre.serve.gateway.keyring import KeyRing
from nacre.serve.gateway.keys import check_exposure, check_keys
from nacre.serve.gateway.logs import logging_to_stderr
from nacre.serve.gateway.observe import TRACERS, Tracer
from nacre.serve.gateway.wire import limited
from nacre.serve.grpc import RpcServer, server_class
from nacre.serve.listen import listen, signals_end_quietly, url_of
from nacre.serve.service import Service
from nacre.serve.settings import Serve

_ALLOCATIONS = 10_000  # of containers, net, between two looks of the garbage collector at the youngest
_SWITCH_S = 0.0005  # that a thread which writes to the ledger may keep requests waiting; Python's own is ten times that

__all__ = ["ApiServer", "LedgerSource", "background", "serve"]


def serve(
    source: LedgerSource | Weights,
    settings: Serve,
    *,
    announce: Callable[[str], None],
    beside: Callable[[str, str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; then take no more requests, end the running ones and return. Logs go to stderr.

    Args:
        source: a ledger to follow, or one model folder. A folder keeps no answers and takes no feedback.
        settings: address, keys, limits.
        announce: is given the URL once the server answers.
        beside: is then given what else listens, and where: the admin API on a port of its own, gRPC.

    Raises:
        InputError: an address others can reach and no key; an unknown engine; a folder that is no model.
        NacreError: the port is taken, or the champion cannot be loaded.
    """
    with logging_to_stderr(settings.log, settings.api_keys):
        server = ApiServer(source, settings)
        with _collecting_seldom(), _switching_soon():
            server.run(partial(server.announce_all, announce, beside) if beside else announce)


@contextmanager
def background(source: LedgerSource | Weights, settings: Serve) -> Iterator[str]:
    """Serve from a thread of this process for the length of the block; yields the URL. Raises as `serve` does."""
    server = ApiServer(source, settings)
    started: Queue[str | BaseException] = Queue()

    def run() -> None:
        try:
            server.run(started.put)
        except (NacreError, OSError, RuntimeError) as error:
            started.put(error)

    thread = threading.Thread(target=run, name="nacre-serve", daemon=True)
    thread.start()
    first = started.get()
    if isinstance(first, BaseException):
        raise first
    try:
        yield first
    finally:
        server.stop()
        thread.join()


class ApiServer:
    """One server. Its ports are taken at once, so that a taken one is known before a model is loaded."""

    def __init__(self, source: LedgerSource | Weights, settings: Serve) -> None:
        check_keys(settings.api_keys, settings.host, *([] if settings.admin_port is None else [settings.admin_host]))
        self._ring = KeyRing(settings.api_keys, source.ledger.keys if isinstance(source, LedgerSource) else None)
        self._ring.load()
        check_exposure(settings.host, usable=self._ring.usable)
        check_exposure(settings.admin_host, usable=self._ring.usable or settings.admin_port is None)
        self._engine_class = engine_class(settings.engine)
        self._rpc_class = server_class(settings)
        self._rpc: RpcServer | None = None
        self._source, self._settings = source, settings
        self._admin_listener: socket | None = None
        with ExitStack() as taken:
            self._listener = taken.enter_context(listen(settings.host, settings.port))
            if settings.admin_port is not None:
                self._admin_listener = taken.enter_context(listen(settings.admin_host, settings.admin_port))
            taken.pop_all()
        self._stopping = False
        self._servers: list[uvicorn.Server | RpcServer] = []

    @property
    def url(self) -> str:
        """Where the server is reached."""
        return url_of(self._listener)

    @property
    def admin_url(self) -> str:
        """Where its admin API is reached."""
        return url_of(self._admin_listener or self._listener)

    @property
    def grpc_address(self) -> str:
        """Where gRPC is reached, once it runs; empty where it is not served."""
        return self._rpc.address if self._rpc else ""

    def announce_all(self, announce: Callable[[str], None], beside: Callable[[str, str], None], url: str) -> None:
        """Tell where the API is reached, and what else listens where."""
        announce(url)
        if self._admin_listener is not None:
            beside("the admin API", self.admin_url)
        if self.grpc_address:
            beside("gRPC", self.grpc_address)

    def run(self, announce: Callable[[str], None]) -> None:
        """Serve until stopped, see `serve`."""
        with ExitStack() as taken:
            for listener in filter(None, (self._listener, self._admin_listener)):
                taken.enter_context(listener)
            loop = uvicorn.Config(_no_app, log_config=None).get_loop_factory()  # uvloop where there is one
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(self._main(announce))

    def stop(self) -> None:
        """End as SIGTERM does. May be called from any thread."""
        self._stopping = True
        for server in self._servers:
            server.should_exit = True

    async def _main(self, announce: Callable[[str], None]) -> None:
        self._rpc = self._rpc_class(self._settings) if self._rpc_class else None
        engine: Engine = self._engine_class(self._settings)
        otlp = self._settings.otlp
        tracer: Tracer | None = _tracer(otlp) if otlp else None
        try:
            async with assembled(self._source, self._settings, engine, self._ring, self.stop) as service:
                await self._answer(service, tracer, announce)
        finally:
            await engine.close()
            if self._rpc is not None:
                await self._rpc.close()
            if tracer is not None:
                await asyncio.to_thread(tracer.close)

    async def _answer(self, service: Service, tracer: Tracer | None, announce: Callable[[str], None]) -> None:
        page = self._source.page if isinstance(self._source, LedgerSource) else None
        api = make_app(service, tracer)
        whole = self._settings.admin_port is None
        async with page(api, self._ring, admin=whole) if page else nullcontext(api) as app:
            await self._listen(app, service, tracer, announce)

    async def _listen(
        self, app: ASGIApp, service: Service, tracer: Tracer | None, announce: Callable[[str], None]
    ) -> None:
        main = uvicorn.Server(self._config(app))
        self._servers = [main]
        with signals_end_quietly():
            others = []
            if self._admin_listener is not None:
                beside = _Beside(self._config(make_admin_app(service)))
                self._servers.append(beside)
                others.append(asyncio.create_task(beside.serve(sockets=[self._admin_listener])))
            if self._rpc is not None:
                self._servers.append(self._rpc)
                others.append(asyncio.create_task(self._rpc.serve(service, tracer)))
            if self._stopping:
                self.stop()
            others.append(asyncio.create_task(self._announce(announce)))
            try:
                await main.serve(sockets=[self._listener])
            finally:
                self.stop()
                others.pop().cancel()
                await asyncio.gather(*others)

    def _config(self, app: ASGIApp) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            http=limited(self._settings.wire),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=max(1, round(self._settings.wire.idle_s)),
            timeout_graceful_shutdown=self._settings.drain_s,
        )

    async def _announce(self, announce: Callable[[str], None]) -> None:
        while not all(server.started for server in self._servers):
            await asyncio.sleep(0.01)
        announce(self.url)


class _Beside(uvicorn.Server):
    """A server beside the one that hears the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear none."""
        yield


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Keep Python's garbage collector away from what lives as long as the process: the imported libraries.

    It looks at all of that again and again, for a fifth of the gateway's time. Models are loaded later and collected.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _switching_soon() -> Iterator[None]:
    """Have threads that work behind the requests' back give way sooner."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def _no_app(scope: object, receive: object, send: object) -> None:
    """Stands where uvicorn wants an app."""


def _tracer(endpoint: str) -> Tracer:
    """What sends traces.

    Raises:
        InputError: its libraries are not installed.
    """
    try:
        tracer: Tracer = TRACERS.load("otlp", where="serve.otlp")(endpoint)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed", where="serve.otlp", fix="pip install 'nacre[otel]'"
        ) from None
    return tracer
