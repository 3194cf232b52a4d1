"""The engine inside the server process: transformers on this machine, many requests side by side."""

from nacre.serve.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
