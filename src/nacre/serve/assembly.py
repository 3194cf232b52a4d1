"""Everything one server is made of, put together, kept going, and taken apart in the right order."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from starlette.types import ASGIApp

from nacre.base.errors import NacreError
from nacre.records import Version, Weights
from nacre.registry.leases import Lease
from nacre.registry.ledger import Ledger
from nacre.serve.engines import Engine, Target
from nacre.serve.gateway.ids import Signer
from nacre.serve.gateway.keyring import KeyRing
from nacre.serve.gateway.keys import Crowd
from nacre.serve.gateway.metrics import Metrics
from nacre.serve.interactions import Writer
from nacre.serve.knowledge.retrieval import Retrieval
from nacre.serve.knowledge.snapshots import Where
from nacre.serve.live import SERVED, Watcher
from nacre.serve.numbers import measure
from nacre.serve.privacy import Redactor
from nacre.serve.routing import CHAMPION, Live
from nacre.serve.service import Action, Memory, Service
from nacre.serve.settings import Serve
from nacre.serve.shadow import Shadow

_log = logging.getLogger("nacre.serve")


class Page(Protocol):
    """Puts a page beside an API; `admin`: whether the admin API is part of it."""

    def __call__(self, app: ASGIApp, ring: KeyRing, *, admin: bool) -> AbstractAsyncContextManager[ASGIApp]: ...


@dataclass(frozen=True)
class LedgerSource:
    """Serve what a ledger calls champion.

    Attributes:
        resolve: where the weights of a version lie.
        secret: file with the secret that signs response ids, made at the first start; see `Signer.of_server`.
        serving: folder in which this server says what it holds; None where nobody collects garbage.
        actions: the moves of releases for the admin API, see `Service.actions`.
        page: puts the page beside the API for the length of a block, see `Page`; None: there is no page.
        knowledge: the documents that chats are given passages of; None: there are none.
        slots: whose versions are loaded.
    """

    ledger: Ledger
    resolve: Callable[[Version], Weights]
    secret: Path
    serving: Path | None = None
    actions: Mapping[str, Action] = field(default_factory=dict)
    page: Page | None = None
    knowledge: Where | None = None
    slots: Sequence[str] = SERVED


@asynccontextmanager
async def assembled(
    source: LedgerSource | Weights, settings: Serve, engine: Engine, ring: KeyRing, broken: Callable[[], None]
) -> AsyncIterator[Service]:
    """Load what is to answer, and keep following the ledger where there is one, for the length of the block.

    Args:
        source: a ledger to follow, or one model folder.
        settings: of the server.
        engine: which answers.
        ring: the keys.
        broken: called when following the ledger has failed in a way nobody expected.

    Raises:
        NacreError: the champion cannot be loaded.
    """
    if isinstance(source, Weights):
        target = Target(0, source)
        await engine.load(target)
        live = Live({CHAMPION: target})
        crowd = Crowd(settings.wire.requests)
        service = Service(settings, engine, Signer(secrets.token_bytes(32)), lambda: live, ring=ring, crowd=crowd)
        measure(service)
        yield service
        return
    async with AsyncExitStack() as held:
        lease = _lease(source.serving)
        if lease is not None:
            held.callback(lease.close)
        watcher = Watcher(source.ledger, source.resolve, engine, lease, source.slots)
        held.push_async_callback(watcher.close)
        signer = Signer.of_server(source.secret)
        await watcher.start()
        retrieval = Retrieval(source.knowledge) if source.knowledge and source.knowledge.settings.serve else None
        if retrieval is not None:
            held.callback(retrieval.close)
            await retrieval.start()
        service = _service(source, settings, engine, ring, (watcher, signer, retrieval))
        assert service.memory is not None
        assert service.shadow is not None
        held.push_async_callback(asyncio.to_thread, service.memory.writer.close)
        held.push_async_callback(ring.close)
        held.push_async_callback(service.shadow.close)
        service.shadow.start()
        for work in (watcher.run(), ring.run()):
            held.push_async_callback(_stop, _going_on(work, broken))
        yield service


def _service(
    source: LedgerSource,
    settings: Serve,
    engine: Engine,
    ring: KeyRing,
    made: tuple[Watcher, Signer, Retrieval | None],
) -> Service:
    """A service over a ledger."""
    watcher, signer, retrieval = made
    if not settings.privacy.clean:
        _log.warning("serve.privacy.clean is empty: questions, answers and opinions are kept as they are")
    writer = Writer(source.ledger, Redactor(settings.privacy.clean))
    crowd, metrics = Crowd(settings.wire.requests), Metrics()

    def live() -> Live:
        return watcher.live

    new_id, busy = signer.new, lambda: crowd.running
    service = Service(
        settings,
        engine,
        signer,
        live,
        memory=Memory(source.ledger, writer),
        problem=lambda: watcher.problem,
        troubles=lambda: watcher.troubles,
        ring=ring,
        metrics=metrics,
        shadow=Shadow(engine, live, writer, new_id, busy, metrics, settings.shadow),
        crowd=crowd,
        actions=source.actions,
        knowledge=retrieval,
    )
    measure(service)
    return service


def _going_on(work: Coroutine[Any, Any, None], broken: Callable[[], None]) -> asyncio.Task[None]:
    """A task that never ends by itself. One that does takes the server with it: what is stale must not look healthy."""

    def on_end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.critical("following the ledger failed; the server stops", exc_info=task.exception())
            broken()

    task = asyncio.create_task(work)
    task.add_done_callback(on_end)
    return task


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _lease(folder: Path | None) -> Lease | None:
    """What keeps this server's weights from being collected; a disk that is full must not keep it from answering."""
    try:
        return Lease(folder) if folder else None
    except NacreError as error:
        _log.warning("nacre gc will not know what this server holds: %s", error)
        return None
