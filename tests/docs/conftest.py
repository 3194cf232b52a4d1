"""The workspaces that these tests run in."""

from workspace_kit import _lived_in, _wide, fresh, lived_in

__all__ = ["_lived_in", "_wide", "fresh", "lived_in"]
