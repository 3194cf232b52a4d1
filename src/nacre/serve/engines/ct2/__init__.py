"""The engine for CPUs: CTranslate2 with int8 weights, one answer a worker."""

from nacre.serve.engines.ct2.engine import CTranslate2Engine

__all__ = ["CTranslate2Engine"]
