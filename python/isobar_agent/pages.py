"""Gathering the memory of a process that is about to be forked many times into huge pages.

A fork copies the page tables of its parent: for the 130 MB of a warm zygote that is two thirds of a fork's cost. Over
huge pages there is next to nothing to copy. What a child writes is still copied in small pages.
"""

import ctypes

HUGE = 2 << 20
MADV_COLLAPSE = 25


def gather() -> None:
    """Collapses all private writable memory; a kernel that cannot (before Linux 6.1) changes nothing."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with open("/proc/self/maps") as lines:
        mappings = [line.split() for line in lines]
    for span, rights, _, _, _, *name in mappings:
        if not rights.startswith("rw-p") or name not in ([], ["[heap]"]):
            continue
        begin, end = (int(address, 16) for address in span.split("-"))
        begin, end = -(-begin // HUGE) * HUGE, end // HUGE * HUGE
        if begin < end:
            libc.madvise(begin, end - begin, MADV_COLLAPSE)
