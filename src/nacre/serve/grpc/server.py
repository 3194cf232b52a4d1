"""The gRPC server: both services on one port, beside the API and on its event loop."""

import asyncio
import logging
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME, aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from nacre.base.errors import NacreError
from nacre.serve.gateway.observe import Tracer
from nacre.serve.grpc import inference
from nacre.serve.grpc.call import Entrance, Work
from nacre.serve.grpc.chat import chat, chat_stream
from nacre.serve.grpc.stubs import ChatStub, InferenceStub, path_of
from nacre.serve.service import Service
from nacre.serve.settings import Serve

_log = logging.getLogger("nacre.serve")

_LOOK_S = 0.1  # how often it looks whether it shall stop
_WORKS: dict[str, Work] = {
    "Chat": chat,
    "ChatStream": chat_stream,
    "ServerLive": inference.server_live,
    "ServerReady": inference.server_ready,
    "ModelReady": inference.model_ready,
    "ServerMetadata": inference.server_metadata,
    "ModelMetadata": inference.model_metadata,
    "ModelInfer": inference.model_infer,
    "ModelStreamInfer": inference.model_stream_infer,
}
_OPEN = {"ServerLive", "ServerReady"}  # probes carry no key; what they learn is one bit


class GrpcServer:
    """One server. Its port is taken at once; within a running event loop only.

    Args:
        settings: address and limits.

    Raises:
        NacreError: the port is taken.
    """

    def __init__(self, settings: Serve) -> None:
        self._settings = settings
        wire = settings.wire
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # two servers must not share a port unknowingly
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_metadata_size", wire.header_bytes),
                ("grpc.absolute_max_metadata_size", wire.header_bytes),
                ("grpc.max_allowed_incoming_connections", wire.connections),
                ("grpc.max_connection_idle_ms", round(wire.idle_s * 1000)),
                ("grpc.server_handshake_timeout_ms", round(wire.header_s * 1000)),
            ]
        )
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        place = f"{host}:{settings.grpc_port}"
        try:
            self.port = int(self._server.add_insecure_port(place))
        except RuntimeError:
            fix = "choose another serve.grpc_port (0 takes any free one), or stop the program that uses it"
            raise NacreError("cannot listen for gRPC", where=place, fix=fix) from None
        self.address = f"{host}:{self.port}"
        self.started = self.should_exit = False

    async def serve(self, service: Service, tracer: Tracer | None) -> None:
        """Answer until `should_exit`; then take no more calls and give running ones `drain_s` seconds."""
        entrance, health = Entrance(service, tracer), aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        for stub in (ChatStub, InferenceStub):
            handlers = {method.name: _handler(entrance, method) for method in stub.service.methods}
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(stub.service.full_name, handlers),)
            )
        await self._server.start()
        self.started = True
        _log.info("gRPC at %s", self.address)
        try:
            while not self.should_exit:
                await _tell_health(health, answers=service.live().champion is not None)
                await asyncio.sleep(_LOOK_S)
        finally:
            await health.enter_graceful_shutdown()
            await self._server.stop(self._settings.drain_s)

    async def close(self) -> None:
        """Give the port back. Harmless after `serve`."""
        await self._server.stop(None)


async def _tell_health(health: aio.HealthServicer, *, answers: bool) -> None:
    """Say to probes of gRPC's own health service whether something answers; like `/health` they need no key."""
    state = HealthCheckResponse.SERVING if answers else HealthCheckResponse.NOT_SERVING
    for name in ("", *(stub.service.full_name for stub in (ChatStub, InferenceStub)), SERVICE_NAME):
        await health.set(name, state)


def _handler(entrance: Entrance, method: Any) -> Any:
    """Reads raw messages itself, so that a client has only so long for them; says one, or a stream."""
    path, work, is_open = path_of(method), _WORKS[method.name], method.name in _OPEN

    async def one(_: Any, context: Any) -> bytes:
        return await entrance.handle(context, path, work, is_open=is_open)

    async def many(_: Any, context: Any) -> None:
        await entrance.handle(context, path, work, is_open=is_open)

    if method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(many)
    return grpc.stream_unary_rpc_method_handler(one)
