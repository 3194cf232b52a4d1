"""What a piece of work drew from the wall, as far as this machine can tell. Nothing is guessed from nominal powers.

The CPU's packages are read from RAPL's counters (Linux, often for root only), the GPU's power from nvidia-smi, every
two seconds. Memory, disks, fans and the power supply's losses are not in it. Cost: a short process each time.
"""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

from nacre.records import Energy

POWERCAP = Path("/sys/class/powercap")
_INTERVAL_S = 2.0
_PATIENCE_S = 10.0
_JOULES_PER_WH = 3600.0


class Meter:
    """Reads while its `with` block runs; afterwards `energy` has the sum, or None where nothing could be read.

    `cpu_seconds` has the processor time of this process, and of those that it started and that have ended.

    Args:
        gpu: whether the work runs on a GPU; an idle one is not read.
        powercap: folder of the kernel's counters.
    """

    def __init__(self, *, gpu: bool, powercap: Path = POWERCAP) -> None:
        self.energy: Energy | None = None
        self.cpu_seconds = 0.0
        self._gpu, self._powercap = gpu, powercap

    def __enter__(self) -> Self:
        self._before, self._cpu_before = _counters(self._powercap), cpu_seconds()
        self._started = time.monotonic()
        self._over, self._powers = threading.Event(), list[float]()
        self._reader = threading.Thread(target=self._read_powers, name="nacre-energy", daemon=True)
        if self._gpu:
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._started
        self.cpu_seconds = cpu_seconds() - self._cpu_before
        self._over.set()
        if self._gpu:
            self._reader.join()
        after = _counters(self._powercap)
        both = [(name, self._before[name], after[name]) for name in self._before if name in after]
        joules = sum(_risen(self._powercap / name, before, now) for name, before, now in both) / 1e6
        sources = [f"{len(both)} CPU package{'s' if len(both) > 1 else ''} (RAPL)"] if both else []
        if self._powers:
            joules += sum(self._powers) / len(self._powers) * seconds
            sources.append(f"GPU (nvidia-smi, mean of {len(self._powers)})")
        if sources:
            self.energy = Energy(watt_hours=joules / _JOULES_PER_WH, source=" and ".join(sources))

    def _read_powers(self) -> None:
        while True:
            power = _gpu_power()
            if power is not None:
                self._powers.append(power)
            if self._over.wait(_INTERVAL_S):
                return


def cpu_seconds() -> float:
    """Processor time so far of this process, and of those that it started and that have ended."""
    return sum(os.times()[:4])


def _counters(powercap: Path) -> dict[str, int]:
    """Microjoules by package; packages that may not be read are left out."""
    found = {}
    for package in sorted(powercap.glob("intel-rapl:*")):
        if package.name.count(":") == 1:  # those with two are parts of a package
            try:
                found[package.name] = int((package / "energy_uj").read_text())
            except (OSError, ValueError):
                continue
    return found


def _risen(package: Path, before: int, now: int) -> int:
    """Microjoules between two readings; the counter begins at zero again when it is full."""
    if now >= before:
        return now - before
    try:
        return now - before + int((package / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return now


def _gpu_power() -> float | None:
    """Watts that the GPUs this process may use draw together; None where nvidia-smi is missing or does not tell."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    only = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    command = [program, *(["-i", only] if only else []), "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
        return sum(float(line) for line in told.stdout.split("\n") if line.strip())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
