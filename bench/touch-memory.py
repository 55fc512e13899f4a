"""Touches free memory, in pages of both sizes, and gives it back.

A virtual machine's memory that nobody has used for a while is not there until it is touched, which takes several times as
long as what is measured. The kernel gives out first what was given back last.
"""

import mmap

NEEDED_BYTES = 3 << 30
SPARE_BYTES = 512 << 20
PAGE_BYTES = 4096
HUGE_PAGE_BYTES = 2 << 20


def free_bytes():
    with open("/proc/meminfo") as meminfo:
        return next(int(line.split()[1]) << 10 for line in meminfo if line.startswith("MemFree:"))


def touched(size_bytes, advice):
    size_bytes -= size_bytes % HUGE_PAGE_BYTES
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(advice)
    for page in range(0, size_bytes, PAGE_BYTES):
        memory[page] = 1
    return memory


each = min(NEEDED_BYTES, (free_bytes() - SPARE_BYTES) // 2)
if each > HUGE_PAGE_BYTES:
    huge = touched(each, mmap.MADV_HUGEPAGE)
    small = touched(each, mmap.MADV_NOHUGEPAGE)
