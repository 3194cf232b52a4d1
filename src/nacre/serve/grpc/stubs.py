"""The two services as a client calls them: a callable a method, for a channel of `grpc` or `grpc.aio`."""

from typing import Any

from nacre.serve.grpc import chat_pb2, inference_pb2


class Stub:
    """The methods of one service, by their names in the .proto.

    Args:
        channel: of `grpc` or `grpc.aio`.
    """

    service: Any

    def __init__(self, channel: Any) -> None:
        for method in self.service.methods:
            kind = f"{_STYLES[method.client_streaming]}_{_STYLES[method.server_streaming]}"
            call = getattr(channel, kind)(
                path_of(method),
                request_serializer=message_class(method.input_type).SerializeToString,
                response_deserializer=message_class(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        """What the .proto does not have."""
        raise AttributeError(f"{self.service.full_name} has no method {name!r}")


class ChatStub(Stub):
    """``nacre.v1.Chat``."""

    service = chat_pb2.DESCRIPTOR.services_by_name["Chat"]


class InferenceStub(Stub):
    """``inference.GRPCInferenceService``."""

    service = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


_STYLES = {False: "unary", True: "stream"}


def path_of(method: Any) -> str:
    """How a method is named on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def message_class(descriptor: Any) -> Any:
    """The class of a message."""
    return getattr(chat_pb2 if descriptor.file.name == chat_pb2.DESCRIPTOR.name else inference_pb2, descriptor.name)
