import pytest
from train_kit import Bomb, Spy

from nacre.train.protect import PROTECTIONS


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    """Makes the protection `spy` known."""
    monkeypatch.setitem(PROTECTIONS._entries, "spy", "train_kit:Spy")
    monkeypatch.setattr(Spy, "steps", [])
    monkeypatch.setattr(Spy, "batches", [])
    return Spy


@pytest.fixture
def bomb(monkeypatch: pytest.MonkeyPatch) -> type[Bomb]:
    """Makes the protection `bomb` known; it is armed by setting its `at` to a step."""
    monkeypatch.setitem(PROTECTIONS._entries, "bomb", "train_kit:Bomb")
    monkeypatch.setattr(Bomb, "at", None)
    return Bomb
