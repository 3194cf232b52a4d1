"""What stands beside the gRPC services: gRPC's own health service, a limit of connections, and being told where."""

from pathlib import Path

import grpc
import pytest
from gateway_kit import make_hall, serving, until
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from nacre.serve.grpc.inference_pb2 import ServerLiveRequest
from nacre.serve.grpc.stubs import InferenceStub

KEY = "sk-grpc-0123456789"


def test_probes_ask_the_health_service_without_a_key(tmp_path: Path) -> None:
    hall = make_hall(tmp_path / "space")
    with (
        serving(hall, grpc_port=0, api_keys=(KEY,)) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        stub = HealthStub(channel)
        for name in ("", "nacre.v1.Chat", "inference.GRPCInferenceService"):
            until(lambda name=name: stub.Check(HealthCheckRequest(service=name)).status == HealthCheckResponse.SERVING)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(HealthCheckRequest(service="nobody"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    hall.space.close()


def test_one_connection_too_many_is_not_served(tmp_path: Path) -> None:
    hall = make_hall(tmp_path / "space")
    with serving(hall, grpc_port=0, wire={"connections": 2}) as server:
        # channels to one address share a connection unless they are told not to
        channels = [
            grpc.insecure_channel(server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(3)
        ]
        for channel in channels[:2]:
            assert InferenceStub(channel).ServerLive(ServerLiveRequest(), timeout=20).live
        with pytest.raises(grpc.RpcError) as caught:
            InferenceStub(channels[2]).ServerLive(ServerLiveRequest(), timeout=20)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        for channel in channels:
            channel.close()
    hall.space.close()


def test_every_listener_is_told_with_the_port_it_got(tmp_path: Path) -> None:
    hall, told = make_hall(tmp_path / "space"), list[str]()
    with serving(hall, grpc_port=0, admin_port=0) as server:
        server.announce_all(told.append, lambda what, where: told.append(f"{what} at {where}"), server.url)
        assert told == [server.url, f"the admin API at {server.admin_url}", f"gRPC at {server.grpc_address}"]
        assert server.admin_url != server.url
        assert not server.grpc_address.endswith(":0")
    hall.space.close()
