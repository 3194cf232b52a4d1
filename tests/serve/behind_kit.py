"""The upstream engine with a real nacre behind it, which loads whatever the upstream engine is asked to load."""

import asyncio
import secrets

import uvicorn

from nacre.serve.app import make_app
from nacre.serve.engines import Target
from nacre.serve.engines.embedded import EmbeddedEngine
from nacre.serve.engines.upstream.engine import UpstreamEngine
from nacre.serve.engines.upstream.settings import Upstream
from nacre.serve.gateway.ids import Signer
from nacre.serve.listen import listen, url_of
from nacre.serve.routing import Live
from nacre.serve.run import _Beside
from nacre.serve.service import Service
from nacre.serve.settings import Serve


class BehindNacre(UpstreamEngine):
    """Keeps the engine protocol as `UpstreamEngine` does. `load` has the nacre behind load the version first."""

    def __init__(self, settings: Serve) -> None:
        self._listener = listen("127.0.0.1", 0)
        upstream = Upstream(urls=(url_of(self._listener),), kind="nacre", health_s=60)
        super().__init__(settings.model_copy(update={"upstream": upstream}))
        self._inner = EmbeddedEngine(settings)
        self._live = Live()
        service = Service(settings, self._inner, Signer(secrets.token_bytes(32)), lambda: self._live)
        config = uvicorn.Config(make_app(service), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = _Beside(config)
        self._serving: asyncio.Task[None] | None = None

    async def load(self, target: Target) -> None:
        if self._serving is None:
            self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        await self._inner.load(target)
        self._live = Live({**self._live.slots, f"slot{target.version}": target})
        await super().load(target)

    async def unload(self, target: Target) -> None:
        await super().unload(target)
        self._live = Live({name: one for name, one in self._live.slots.items() if one != target})
        await self._inner.unload(target)

    async def close(self) -> None:
        await super().close()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._listener.close()
        await self._inner.close()
