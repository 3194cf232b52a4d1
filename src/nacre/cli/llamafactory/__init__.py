"""LlamaFactory's argument names, and the articles' own: read, checked as a whole, and put into nacre's terms."""

from nacre.cli.llamafactory.arguments import ALIASES, SWITCHES, Arguments
from nacre.cli.llamafactory.check import to_arguments
from nacre.cli.llamafactory.keys import KEYS
from nacre.cli.llamafactory.read import read_arguments
from nacre.cli.llamafactory.translate import to_job

__all__ = ["ALIASES", "KEYS", "SWITCHES", "Arguments", "read_arguments", "to_arguments", "to_job"]
