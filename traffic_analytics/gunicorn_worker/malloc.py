"""Tune glibc's malloc for large request bodies."""

import ctypes

_M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD = 128 * 1024
"""Size from which a block is mapped by itself, in bytes."""


def return_large_blocks() -> None:
    """Make glibc return every large block to the system when it is freed.

    By default glibc raises its threshold with the first large block and then keeps such blocks in an arena per thread:
    16 threads and bodies of 9 MiB came to hundreds of MiB per process. Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
