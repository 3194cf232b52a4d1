"""What a training may run on: the machine at hand, or cards that are named by their memory."""

import os
import re
from dataclasses import dataclass, replace

import torch

from nacre.base.errors import InputError
from nacre.data.report.records import Said
from nacre.train.arguments import has_bf16
from nacre.train.estimate import GIB, Device, device_now

SPEEDS = ((12, 50e12), (24, 120e12), (48, 150e12))  # bf16 FLOP/s of usual cards with at most so many GB of memory
LARGE = 300e12  # of larger ones
CORE = 60e9  # fp32 FLOP/s of one core of a server's processor
CARD = re.compile(r"(?:(\d+)\s*x\s*)?(\d+(?:\.\d+)?)\s*(?:gb|g)?", re.IGNORECASE)
MOST_CARDS, MOST_GB = 1024, 1024


@dataclass(frozen=True)
class Hardware:
    """Where a training may run.

    Attributes:
        device: one card, or the processor with the main memory that is free.
        cards: how many of them; 0: none.
        cores: of the processor, where it trains.
        bf16: whether it multiplies bf16 by itself.
        assumed: the speed is that of usual cards of this size, not measured.
    """

    name: Said
    device: Device
    cards: int
    cores: int
    bf16: bool
    assumed: bool

    @property
    def margin(self) -> float:
        """What the estimate is multiplied by before it must fit: how sure it is."""
        return 1.25 if self.cards else 1.15


def cards(text: str) -> Hardware:
    """`24` is one card with 24 GB, `4x80` four with 80 GB; `cpu` the processor at hand.

    Raises:
        InputError: it is neither.
    """
    if text.strip().lower() == "cpu":
        return processor()
    match = CARD.fullmatch(text.strip())
    count, size = (int(match[1] or 1), float(match[2])) if match else (0, 0.0)
    if not (1 <= count <= MOST_CARDS and 1 <= size <= MOST_GB):
        fix = "write 24, 1x24, 4x80 or cpu: how many cards, and the memory of each in GB"
        raise InputError(f"'{text}' names no cards", where="--gpus", fix=fix)
    speed = next((speed for most, speed in SPEEDS if size <= most), LARGE)
    names = Said(en=f"{count} x {size:g} GB card", zh=f"{count} 张 {size:g} GB 显卡")
    return Hardware(names, Device("cuda", size * GIB, speed), count, 0, True, assumed=True)


def processor(memory_gb: float | None = None, cores: int | None = None) -> Hardware:
    """The processor at hand, or one with so many cores that is not, and its main memory."""
    here, bf16 = device_now("cpu"), has_bf16()
    count = cores or _cores()
    if cores is not None:
        here, bf16 = replace(here, flops_per_s=CORE * cores), True
    device = here if memory_gb is None else replace(here, memory_bytes=memory_gb * GIB)
    size = f"{device.memory_bytes / GIB:.0f} GB"
    free = Said(en=f"{size} free" if memory_gb is None else size, zh=f"可用 {size}" if memory_gb is None else size)
    plural = "s" if count > 1 else ""
    names = Said(en=f"CPU, {count} core{plural}, {free.en}", zh=f"CPU，{count} 核，{free.zh}")
    return Hardware(names, device, 0, count, bf16, assumed=cores is not None)


def here(memory_gb: float | None = None) -> Hardware:
    """The cards of this machine, else its processor; `memory_gb` of main memory, where not all is to be used."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return processor(memory_gb)
    device = device_now("cuda")
    name = f"{count} x {torch.cuda.get_device_name(0)}"
    size = f"{device.memory_bytes / GIB:.0f} GB"
    names = Said(en=f"{name}, {size} each", zh=f"{name}，各 {size}")
    return Hardware(names, device, count, 0, torch.cuda.is_bf16_supported(), assumed=False)


def elsewhere() -> list[Hardware]:
    """Places that are compared: one small card, one large, several, a server without."""
    return [cards("24"), cards("80"), cards("4x80"), cards("8x80"), processor(64, 16)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
