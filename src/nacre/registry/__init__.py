"""What is live, and how it came to be: the ledger (SQL) and the artifact store. No torch."""

from nacre.registry.ledger import Ledger
from nacre.registry.slots import CHALLENGER, CHAMPION, PREVIOUS, SHADOW, Slot
from nacre.registry.store import ArtifactStore

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "SHADOW", "ArtifactStore", "Ledger", "Slot"]
