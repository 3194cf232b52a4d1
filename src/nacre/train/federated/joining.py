"""A party's end of the wire: join, take messages, answer them, until the server says that it is over."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from nacre.base.errors import InputError, NacreError
from nacre.train.federated.app import PartyApp
from nacre.train.federated.grid import fresh_context, from_bytes, to_bytes
from nacre.train.federated.party import Door, Party
from nacre.train.federated.terms import Terms
from nacre.train.federated.wire import END, MESSAGE, PROTOCOL, SERVICE, TOKEN

ASK_S = 0.3  # between two looks for a message
ALIVE_S = 5.0  # between two signs of life while training
CALL_S = 60.0  # for one call
CARRY_S = 1800.0  # for one that carries an adapter
_CARRY = ("Next", "Reply")
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED)


class _Line:
    """The connection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        secure = door.roots is not None
        self._channel = (
            grpc.secure_channel(door.address, grpc.ssl_channel_credentials(door.roots), options=_OPTIONS)
            if secure
            else grpc.insecure_channel(door.address, options=_OPTIONS)
        )
        self._token = ""

    def join(self) -> tuple[int, str, str]:
        """Take a seat; returns its number, the name it has there, and the terms."""
        asked = {"protocol": PROTOCOL, "name": self._door.name, "secret": self._door.secret}
        found = json.loads(self.call("Join", json.dumps(asked).encode()))
        self._token = found["token"]
        return int(found["node"]), str(found["name"]), str(found["terms"])

    def call(self, name: str, body: bytes = b"", patience_s: float | None = None) -> bytes:
        """One call, tried again while the server cannot be reached.

        Raises:
            InputError: the server refuses this party.
            NacreError: it cannot be reached.
        """
        method = self._channel.unary_unary(f"/{SERVICE}/{name}")
        end = time.monotonic() + (self._door.patience_s if patience_s is None else patience_s)
        while True:
            try:
                limit = CARRY_S if name in _CARRY else CALL_S
                return bytes(method(body, timeout=limit, metadata=((TOKEN, self._token),) if self._token else ()))
            except grpc.RpcError as error:
                code = error.code()
                if code in _REFUSED:
                    fix = "check --party, the secret, and that both sides run the same nacre"
                    raise InputError(
                        f"the server refuses: {error.details()}", where=self._door.address, fix=fix
                    ) from None
                if time.monotonic() > end:
                    fix = "check the address and the certificate, and that nacre federate train is running there"
                    raise NacreError(
                        f"the server does not answer: {code.name.lower()}", where=self._door.address, fix=fix
                    ) from None
            time.sleep(ASK_S)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Say in the background that this party is still there."""
        over = threading.Event()

        def say() -> None:
            while not over.wait(ALIVE_S):
                try:
                    self.call("Alive", patience_s=0.0)
                except NacreError:  # whoever sends the answer will find out
                    continue

        thread = threading.Thread(target=say, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        """Give the seat back."""
        try:
            if self._token:
                self.call("Leave", patience_s=0.0)
        except NacreError:
            pass  # it is over there too
        self._channel.close()


def join(door: Door, settle: Callable[[Terms], Party], tell: Callable[[str], None]) -> int:
    """Take part in a federation until it is over; returns how many messages were answered.

    Args:
        settle: makes the party once its terms are known.

    Raises:
        InputError: the server refuses, or the terms do not fit.
        NacreError: the server is gone, or the training fails.
    """
    line = _Line(door)
    try:
        node, name, text = line.join()
        terms = Terms.model_validate_json(text)
        app = PartyApp(settle(terms), tell)
        tell(f"taking part as {name}: {terms.task}")
        context, answered = fresh_context(node), 0
        while (data := line.call("Next"))[:1] != END:
            if data[:1] != MESSAGE:
                time.sleep(ASK_S)
                continue
            message = from_bytes(data[1:])
            with line.alive():
                reply = _answer(app, message, context, line)
            line.call("Reply", to_bytes(reply))
            answered += 1
        return answered
    finally:
        line.close()


def _answer(app: PartyApp, message: Message, context: Any, line: _Line) -> Message:
    """The answer; where there is none, the server is told so, without the words of the error."""
    try:
        return app(message, context)
    except (NacreError, ValueError, KeyError, TypeError) as error:
        sorry = Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason="could not train"), reply_to=message)
        line.call("Reply", to_bytes(sorry), patience_s=0.0)
        if not isinstance(error, NacreError):
            fix = "ask whoever runs the federation; both sides must run the same nacre"
            raise NacreError(f"the message cannot be answered: {error}", where="the server", fix=fix) from error
        raise
