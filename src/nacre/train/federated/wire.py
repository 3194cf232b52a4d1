"""A grid between machines: a small gRPC service whose messages are Flower's. The parties ask; the server never calls.

A party joins with its name and secret and is given a number and a token, which every later call carries. It asks for
its next message every little while, and says that it is alive while it trains; who is silent for too long is not waited
for. Bodies are bytes: of the calls below, `Join` and `Leave` take JSON, `Reply` a message, and `Next` gives one.
"""

import hmac
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from flwr.app import Message
from google.protobuf.message import DecodeError

from nacre.base.errors import NacreError
from nacre.train.federated.grid import NacreGrid, from_bytes, stamped, to_bytes

SERVICE = "nacre.Federation"
CALLS = ("Join", "Next", "Reply", "Alive", "Leave")
PROTOCOL = 1
TOKEN = "nacre-token"  # name of the header
NOTHING, MESSAGE, END = b"\x00", b"\x01", b"\x02"  # first byte of what `Next` gives
ROOM_BYTES = 1 << 20  # beside the tensors of a message
WIDER = 4  # a masked number takes eight bytes, an encoded one a little more than four
THREADS = 16
MOST_PARTIES, MOST_SEATS = 1000, 100_000  # at a time, and of those that left and came again
FAREWELL_S = 3.0  # how long the end is announced


@dataclass
class _Seat:
    """A party as the server sees it."""

    name: str
    token: str
    seen: float
    left: bool = False
    told: bool = False
    waiting: deque[tuple[str, bytes]] = field(default_factory=deque)


class Exchange(NacreGrid):
    """The server's side.

    Args:
        address: host:port to listen on; port 0 takes any free one.
        terms: JSON text that whoever joins is given.
        adapter_bytes: size of the tensors that travel.
        parties: secrets by name of the party; None: whoever comes may take part.
        certificate: PEM of key and certificate; None: nothing is encrypted.
        lost_after_s: who is silent for so long is not waited for.
        tell: is called with a sentence when somebody comes or goes.

    Raises:
        NacreError: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        terms: str,
        adapter_bytes: int,
        *,
        parties: Mapping[str, str] | None = None,
        certificate: tuple[bytes, bytes] | None = None,
        lost_after_s: float = 60.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._terms, self._parties, self._tell = terms, parties, tell
        self._lost_after = lost_after_s
        self._seats: dict[int, _Seat] = {}
        self._replies: dict[str, Message] = {}
        self._open: dict[str, int] = {}  # messages that are waited for, and whose answer it must be
        self._lock = threading.Lock()
        self._over = False
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, "federation"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", WIDER * adapter_bytes + ROOM_BYTES),
                ("grpc.max_send_message_length", -1),
            ],
        )
        calls = {name: grpc.unary_unary_rpc_method_handler(getattr(self, f"_{name.lower()}")) for name in CALLS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, calls),))
        self.port = self._bind(address, certificate)
        self._server.start()

    def _bind(self, address: str, certificate: tuple[bytes, bytes] | None) -> int:
        try:
            if certificate is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, grpc.ssl_server_credentials([certificate])))
        except RuntimeError:
            fix = "choose another --listen (port 0 takes any free one), or stop the program that uses it"
            raise NacreError("cannot listen for parties", where=address, fix=fix) from None

    def get_node_ids(self) -> Iterable[int]:
        """Who is there now."""
        with self._lock:
            return [node for node in self._seats if self._is_here(node)]

    def here(self, node: int) -> bool:
        """Whether a party was heard of not long ago."""
        with self._lock:
            return self._is_here(node)

    def _is_here(self, node: int) -> bool:
        seat = self._seats[node]
        return not seat.left and time.monotonic() - seat.seen < self._lost_after

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Lay each message ready for its party."""
        idents = []
        for message in messages:
            data, node = to_bytes(stamped(message)), message.metadata.dst_node_id
            ident = message.metadata.message_id
            with self._lock:
                self._seats[node].waiting.append((ident, data))
                self._open[ident] = node
            idents.append(ident)
        return idents

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers to these messages that have come, each once."""
        with self._lock:
            return [self._replies.pop(ident) for ident in list(message_ids) if ident in self._replies]

    def forget(self, sent: Mapping[str, int]) -> None:
        """Late answers to these messages are thrown away, and who has not fetched one yet does not get it."""
        with self._lock:
            for ident, node in sent.items():
                self._open.pop(ident, None)
                self._replies.pop(ident, None)
                self._put_away(node, ident)

    def _put_away(self, node: int, ident: str) -> None:
        """Do not hand this message out any more."""
        seat = self._seats[node]
        seat.waiting = deque(one for one in seat.waiting if one[0] != ident)

    def close(self) -> None:
        """Tell everybody that it is over, and stop listening."""
        self._over = True
        end = time.monotonic() + FAREWELL_S
        while time.monotonic() < end and any(self.here(node) and not self._seats[node].told for node in self._seats):
            time.sleep(0.05)
        self._server.stop(grace=1.0).wait()

    # the calls

    def _join(self, body: bytes, context: Any) -> bytes:
        asked = _json(body, context)
        name, secret = str(asked.get("name", "")), str(asked.get("secret", ""))
        if asked.get("protocol") != PROTOCOL:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another nacre speaks another protocol")
        with self._lock:
            if self._parties is not None and not hmac.compare_digest(
                self._parties.get(name, secrets.token_hex()).encode(), secret.encode()
            ):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no party of that name and secret")
            if sum(not seat.left for seat in self._seats.values()) >= MOST_PARTIES or len(self._seats) >= MOST_SEATS:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many parties")
            node = secrets.randbits(60) or 1
            name = name if self._parties is not None else f"party {len(self._seats) + 1}"
            for seat in self._seats.values():  # who comes again takes the place of who was there
                seat.left = seat.left or seat.name == name
            self._seats[node] = _Seat(name, secrets.token_urlsafe(32), time.monotonic())
            token = self._seats[node].token
        self._tell(f"{name} has joined")
        return json.dumps({"node": node, "token": token, "name": name, "terms": self._terms}).encode()

    def _next(self, _: bytes, context: Any) -> bytes:
        node = self._caller(context)
        with self._lock:
            seat = self._seats[node]
            if seat.waiting:  # it stays there until it is answered: what was sent may never have arrived
                return MESSAGE + seat.waiting[0][1]
            seat.told = self._over
            return END if self._over else NOTHING

    def _reply(self, body: bytes, context: Any) -> bytes:
        node = self._caller(context)
        try:
            message = from_bytes(body)
            ident = message.metadata.reply_to_message_id
        except (DecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no message: {type(error).__name__}")
            raise
        message.metadata.__dict__["_src_node_id"] = node  # whatever it says itself
        with self._lock:
            self._put_away(node, ident)
            if self._open.get(ident) == node:  # its own, and still waited for
                del self._open[ident]
                self._replies[ident] = message
        return b""

    def _alive(self, _: bytes, context: Any) -> bytes:
        self._caller(context)
        return b""

    def _leave(self, _: bytes, context: Any) -> bytes:
        seat = self._seats[self._caller(context)]
        seat.left = True
        self._tell(f"{seat.name} has left")
        return b""

    def _caller(self, context: Any) -> int:
        """Who calls, which keeps its seat by that."""
        given = str(dict(context.invocation_metadata()).get(TOKEN, ""))
        with self._lock:
            for node, seat in self._seats.items():
                if not seat.left and hmac.compare_digest(seat.token, given):
                    seat.seen = time.monotonic()
                    return node
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown token")
        raise AssertionError  # abort has raised


def _json(body: bytes, context: Any) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a JSON object")
        raise AssertionError  # abort has raised
    return found
