"""What a training ran on, so that it can be repeated and compared."""

import platform
from importlib.metadata import version

import torch

from nacre.records import Environment

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "nacre")


def environment() -> Environment:
    """Versions of the packages that decide the result, and the hardware."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return Environment(
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        machine=f"{platform.system()} {platform.machine()}",
        device=device,
    )
