"""Flower's grid, by which a server's strategies reach the parties: what all of ours share, and the one of a simulation.

Flower's own deployment hands every client the program that it runs. A party that shows nobody its rows cannot run what
the other side sends, so here messages are all that travels: Flower's, in Flower's own encoding.
"""

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.ERROR)  # what there is to say is said by the notes

RUN_ID = 1  # of the one run that a server has
LOOK_S = 0.05

App = Callable[[Message, Context], Message | None]
"""What answers a message; None: it never answers."""


def to_bytes(message: Message) -> bytes:
    """A message as it travels."""
    data: bytes = message_to_proto(message).SerializeToString()
    return data


def from_bytes(data: bytes) -> Message:
    """The inverse of `to_bytes`.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    return message_from_proto(MessageProto.FromString(data))


def fresh_context(node: int) -> Context:
    """What an app of Flower's keeps between messages, at first: nothing."""
    return Context(run_id=RUN_ID, node_id=node, node_config={}, state=RecordDict(), run_config={})


class NacreGrid(Grid):
    """Sends messages and waits for the answers of those that are still there."""

    def __init__(self) -> None:
        self._run = Run.create_empty(RUN_ID)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SUPERLINK_NODE_ID, 0

    def set_run(self, run: Any) -> None:
        """There is one run only."""

    @property
    def run(self) -> Run:
        """The one run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a party."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    @abstractmethod
    def here(self, node: int) -> bool:
        """Whether a party can still be expected to answer."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send, and wait until everybody has answered or is gone, at most `timeout` seconds."""
        given = list(messages)
        sent = dict(zip(self.push_messages(given), (one.metadata.dst_node_id for one in given), strict=True))
        end = time.monotonic() + timeout if timeout is not None else None
        replies: list[Message] = []
        while sent:
            came = list(self.pull_messages(sent))
            replies += came
            for reply in came:
                sent.pop(reply.metadata.reply_to_message_id, None)
            late = end is not None and time.monotonic() > end
            if late or not any(self.here(node) for node in sent.values()):
                break
            if sent:
                time.sleep(LOOK_S)
        self.forget(sent)
        return replies

    def forget(self, sent: Mapping[str, int]) -> None:
        """Do not wait for the answers to these messages any more."""


def stamped(message: Message) -> Message:
    """The message with a name of its own, which Flower leaves to whoever sends it."""
    message.metadata.__dict__["_message_id"] = str(uuid4())
    return message


class HereGrid(NacreGrid):
    """Parties played by this process, one after the other. Their messages are turned into bytes and back all the same.

    Args:
        apps: what answers, by party.
        tap: is shown the bytes of every message, in both directions.
    """

    def __init__(self, apps: Mapping[int, App], tap: Callable[[bytes], None] = lambda _: None) -> None:
        super().__init__()
        self._apps, self._tap = dict(apps), tap
        self._contexts = {node: fresh_context(node) for node in apps}
        self._replies: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        """All of them, always."""
        return list(self._apps)

    def here(self, node: int) -> bool:
        """Who has not answered when its message was sent never will."""
        return False

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Have each message answered at once."""
        idents = []
        for message in messages:
            node = message.metadata.dst_node_id
            data = to_bytes(stamped(message))
            self._tap(data)
            reply = self._apps[node](from_bytes(data), self._contexts[node])
            idents.append(message.metadata.message_id)
            if reply is not None:
                back = to_bytes(reply)
                self._tap(back)
                self._replies[idents[-1]] = from_bytes(back)
        return idents

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers to these messages, each once."""
        return [self._replies.pop(ident) for ident in list(message_ids) if ident in self._replies]
