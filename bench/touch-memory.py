"""touch-memory.py SMALL HUGE: touches that many GiB of free memory in small and in huge pages, and gives them back.

A virtual machine's memory that nobody has used for a while is not there until it is touched, which takes several times as
long as what is measured. The kernel gives out first what was given back last.
"""

import mmap
import sys

SPARE_BYTES = 512 << 20
PAGE_BYTES = 4096
HUGE_PAGE_BYTES = 2 << 20


def free_bytes():
    with open("/proc/meminfo") as meminfo:
        return next(int(line.split()[1]) << 10 for line in meminfo if line.startswith("MemFree:"))


def touched(size_bytes, advice):
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(advice)
    for page in range(0, size_bytes, PAGE_BYTES):
        memory[page] = 1
    return memory


small_bytes, huge_bytes = (int(argument) << 30 for argument in sys.argv[1:])
share = min(1, (free_bytes() - SPARE_BYTES) / (small_bytes + huge_bytes))
kept = []
for wanted_bytes, advice in ((huge_bytes, mmap.MADV_HUGEPAGE), (small_bytes, mmap.MADV_NOHUGEPAGE)):
    size_bytes = int(wanted_bytes * share) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    if size_bytes > 0:
        kept.append(touched(size_bytes, advice))
