"""Which parameters train: everything, the top layers, or an adapter of PEFT's."""

from nacre.model.tuners.apply import Tuned, apply, goes_beside, save

__all__ = ["Tuned", "apply", "goes_beside", "save"]
