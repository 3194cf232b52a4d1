"""The API over gRPC: nacre's own chat service and the Open Inference Protocol. Importing this needs no gRPC."""

from collections.abc import Callable
from typing import Protocol

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.serve.gateway.observe import Tracer
from nacre.serve.service import Service
from nacre.serve.settings import Serve

SERVERS = Table("gRPC server", {"grpc": "nacre.serve.grpc.server:GrpcServer"})  # needs the extra `grpc`


class RpcServer(Protocol):
    """A server that has its port, and answers until it is told not to."""

    address: str
    started: bool
    should_exit: bool

    async def serve(self, service: Service, tracer: Tracer | None) -> None:
        """Answer until `should_exit`."""

    async def close(self) -> None:
        """Give the port back."""


def server_class(settings: Serve) -> Callable[[Serve], RpcServer] | None:
    """What serves gRPC; None where no port is set.

    Raises:
        InputError: its library is not installed.
    """
    if settings.grpc_port is None:
        return None
    try:
        found: Callable[[Serve], RpcServer] = SERVERS.load("grpc", where="serve.grpc_port")
    except ModuleNotFoundError as error:
        fix = "pip install 'nacre[grpc]'"
        raise InputError(f"{error.name} is not installed", where="serve.grpc_port", fix=fix) from None
    return found
