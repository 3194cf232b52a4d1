"""Plugin tables: names to ``"module:attribute"`` strings, so listing imports nothing."""

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from nacre.base.errors import unknown


class Table:
    """One kind of plugin. Third parties join through the entry-point group ``nacre.<kind>``.

    Args:
        kind: singular noun for messages and the entry-point group, e.g. ``"protection"``.
        entries: name to ``"module:attribute"``.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def targets(self) -> dict[str, str]:
        """Every known name with its target; our own entries win over third parties'."""
        return _installed(f"nacre.{self.kind}", tuple(sys.path)) | self._entries

    def names(self) -> list[str]:
        """Every known name, sorted, importing nothing."""
        return sorted(self.targets())

    def load(self, name: str, *, where: str = "") -> Any:
        """Import and return what `name` stands for.

        Raises:
            InputError: the name is in no table; the message has the nearest known one.
        """
        targets = self.targets()
        if name not in targets:
            raise unknown(self.kind, name, targets, where=where)
        module, _, attribute = targets[name].partition(":")
        return getattr(import_module(module), attribute)


@lru_cache(maxsize=64)  # every look reads a file of each installed package
def _installed(group: str, path: tuple[str, ...]) -> dict[str, str]:
    """What the packages on this path put into a group."""
    return {point.name: point.value for point in entry_points(group=group)}
