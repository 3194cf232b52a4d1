"""Start the server, keep it running, and end it without losing an answer."""

import asyncio
import logging
import secrets
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import uvicorn

from nacre.base.errors import NacreError
from nacre.records import Version, Weights
from nacre.registry.leases import Lease
from nacre.registry.ledger import Ledger
from nacre.serve.app import make_app
from nacre.serve.engines import ENGINES, Engine, Target
from nacre.serve.gateway.ids import Signer
from nacre.serve.gateway.keys import check_exposure
from nacre.serve.interactions import Writer
from nacre.serve.live import Watcher
from nacre.serve.routing import CHAMPION, Live
from nacre.serve.service import Memory, Service
from nacre.serve.settings import Serve

_log = logging.getLogger("nacre.serve")


@dataclass(frozen=True)
class LedgerSource:
    """Serve what a ledger calls champion.

    Attributes:
        resolve: where the weights of a version lie.
        secret: file with the secret that signs response ids; made at the first start.
        serving: folder in which this server says what it holds; None where nobody collects garbage.
    """

    ledger: Ledger
    resolve: Callable[[Version], Weights]
    secret: Path
    serving: Path | None = None


def serve(source: LedgerSource | Weights, settings: Serve, *, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; then take no more requests, end the running ones and return.

    Args:
        source: a ledger to follow, or one model folder. A folder keeps no answers and takes no feedback.
        settings: address, keys, limits.
        announce: is given the URL once the server answers.

    Raises:
        InputError: an address others can reach and no key; an unknown engine; a folder that is no model.
        NacreError: the port is taken, or the champion cannot be loaded.
    """
    ApiServer(source, settings).run(announce)


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
    """One server. The port is taken at once, so that a taken one is known before a model is loaded."""

    def __init__(self, source: LedgerSource | Weights, settings: Serve) -> None:
        check_exposure(settings.host, settings.api_keys)
        self._engine_class = ENGINES.load(settings.engine, where="serve.engine")
        self._source, self._settings = source, settings
        self._listener = _listen(settings.host, settings.port)
        self._stopping = False
        self._uvicorn: uvicorn.Server | None = None

    @property
    def url(self) -> str:
        """Where the server is reached."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, announce: Callable[[str], None]) -> None:
        """Serve until stopped, see `serve`."""
        try:
            asyncio.run(self._main(announce))
        finally:
            self._listener.close()

    def stop(self) -> None:
        """End as SIGTERM does. May be called from any thread."""
        self._stopping = True
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True

    async def _main(self, announce: Callable[[str], None]) -> None:
        engine: Engine = self._engine_class(self._settings)
        try:
            async with self._service(engine) as service:
                await self._answer(service, announce)
        finally:
            await engine.close()

    @asynccontextmanager
    async def _service(self, engine: Engine) -> AsyncIterator[Service]:
        """Load what is to answer, and keep following the ledger where there is one."""
        if isinstance(self._source, Weights):
            target = Target(0, self._source)
            await engine.load(target)
            live = Live({CHAMPION: target})
            yield Service(self._settings, engine, Signer(secrets.token_bytes(32)), lambda: live)
            return
        with ExitStack() as held:
            lease = _lease(self._source.serving)
            if lease is not None:
                held.callback(lease.close)
            watcher = Watcher(self._source.ledger, self._source.resolve, engine, lease)
            signer = Signer.from_file(self._source.secret)
            await watcher.refresh()
            writer = Writer(self._source.ledger)
            following = asyncio.create_task(watcher.run())
            following.add_done_callback(self._on_watcher_end)
            try:
                memory = Memory(self._source.ledger, writer)
                yield Service(self._settings, engine, signer, lambda: watcher.live, memory, lambda: watcher.problem)
            finally:
                following.cancel()
                await asyncio.wait([following])
                await asyncio.to_thread(writer.close)

    def _on_watcher_end(self, task: asyncio.Task[None]) -> None:
        """A watcher that breaks off takes the server with it: a stale champion must not look healthy."""
        if not task.cancelled() and task.exception() is not None:
            _log.critical("following the ledger failed; the server stops", exc_info=task.exception())
            self.stop()

    async def _answer(self, service: Service, announce: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            make_app(service),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=self._settings.drain_s,
        )
        self._uvicorn = uvicorn.Server(config)
        self._uvicorn.should_exit = self._stopping
        announcing = asyncio.create_task(self._announce(announce))
        try:
            with _signals_end_quietly():
                await self._uvicorn.serve(sockets=[self._listener])
        finally:
            announcing.cancel()

    async def _announce(self, announce: Callable[[str], None]) -> None:
        url = self.url
        while self._uvicorn is None or not self._uvicorn.started:
            await asyncio.sleep(0.01)
        announce(url)


def _lease(folder: Path | None) -> Lease | None:
    """What keeps this server's weights from being collected; a disk that is full must not keep it from answering."""
    try:
        return Lease(folder) if folder else None
    except NacreError as error:
        _log.warning("nacre gc will not know what this server holds: %s", error)
        return None


def _listen(host: str, port: int) -> socket.socket:
    """Take the port now.

    Raises:
        NacreError: it is taken, or the address is none of this machine's.
    """
    place = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise NacreError("the host name is not known", where=place, fix="use 127.0.0.1 or an address") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise NacreError(
            f"cannot listen: {(error.strerror or str(error)).lower()}",
            where=place,
            fix="choose another one with --port (0 takes any free one), or stop the program that uses it",
        ) from None
    return listener


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Undo that uvicorn raises SIGINT and SIGTERM again once it has drained: by then there is nothing left to kill."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _do_nothing) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _do_nothing(number: int, frame: object) -> None:
    """A signal handler."""
