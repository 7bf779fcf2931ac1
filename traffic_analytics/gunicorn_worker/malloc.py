"""What has held a large body goes back to the system at once, and is not kept by every thread that has had one."""

import ctypes

_M_MMAP_THRESHOLD = -3
LARGE = 128 * 1024


def give_back_large_blocks() -> None:
    """Tell glibc to take every large block from the system, and to give it back when it is freed.

    By itself it learns from the first ones to keep such blocks, in an arena for each thread: with 16 threads and bodies
    of 9 MiB that came to hundreds of MiB a process. Does nothing where there is another library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)
