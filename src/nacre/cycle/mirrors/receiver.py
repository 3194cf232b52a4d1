"""What a program that is told of events looks like to those who tell it."""

from typing import Literal, Protocol

from nacre.base.errors import NacreError
from nacre.records import Event


class DeliveryError(NacreError):
    """An event could not be delivered.

    Attributes:
        fault: `unreachable`, nobody answers: wait as long as it takes; `failed`, an error on the other side, which may
            pass; `refused`, this event is not taken, and asking again will hardly help.
    """

    def __init__(
        self, fault: Literal["unreachable", "failed", "refused"], what: str, *, where: str = "", fix: str = ""
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.fault = fault


class Receiver(Protocol):
    """One program outside. Every action of it may come twice, and must then leave the same behind as once."""

    @property
    def name(self) -> str:
        """Under which the ledger remembers how far it was told; at most 64 characters."""

    @property
    def shown(self) -> str:
        """What and where it is, for people, without secrets."""

    @property
    def from_start(self) -> bool:
        """Whether it is told the whole history, or what happens from now on."""

    @property
    def follows_slots(self) -> bool:
        """Whether it shows where the slots stand: when the newest move is given up, the one before it is told."""

    def wants(self, event: Event) -> bool:
        """Whether the event concerns it."""

    def deliver(self, event: Event, *, superseded: bool) -> None:
        """Tell it.

        Args:
            event: what happened.
            superseded: a later event that says where every slot stands is about to be told as well.

        Raises:
            DeliveryError: it did not arrive, or was not taken.
        """
