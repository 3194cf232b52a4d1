"""Where memory is short, what a training frees leaves the process."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from nacre.train.freed import give_back_freed

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if sys.argv[1] == "told":
    assert give_back_freed()
del (lambda: bytearray(b"x" * (30 << 20)))()[:]
before, pins, blocks = held(), [], []
for _ in range(64):  # a small thing that stays behind each large one that goes
    blocks.append(bytearray(b"x" * (1 << 20)))
    pins.append(b"y" * 100_000)
blocks.clear()
print((held() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_blocks_leave_the_process_where_the_c_library_is_told():
    kept, told = (
        int(subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True, check=True).stdout)
        for word in ("as ever", "told")
    )
    assert told < 16  # MiB: what stays behind is 6, what went 64
    assert kept > 32, "else there was nothing to tell"
