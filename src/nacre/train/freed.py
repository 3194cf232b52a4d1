"""Memory that is freed goes back to the system, where memory is what is short.

The GNU C library keeps what is freed for the next that asks: it learns from large blocks that come and go to take
them, up to 32 MiB each, from its heap, and a heap shrinks from its end alone. A step of a training frees its blocks in
another order than it took them, so that the process grows to more than twice what is ever in use at once, and
recomputing activations saves hardly anything of it. With a fixed threshold each larger block is a mapping of its own,
which is gone when it is freed. Price: the system zeroes new pages, about a tenth of the processor time.
"""

import ctypes

M_MMAP_THRESHOLD = -3  # of malloc.h
BLOCK = 256 * 1024


def give_back_freed() -> bool:
    """Have blocks of 256 KiB and more given back as soon as they are freed, for the rest of this process.

    Returns:
        Whether the C library can do that; others than GNU's need not be told.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no such library, no such function, Windows
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, BLOCK))
