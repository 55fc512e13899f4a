# Reads the data extents of a file once, 2 MiB at a time, into one buffer: what any scan of the content has to do.
import os
import sys

fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
buffer = memoryview(bytearray((2 << 20) + 4096))[64 : 64 + (2 << 20)]
end = 0
while end < size:
    try:
        start = os.lseek(fd, end, os.SEEK_DATA)
    except OSError:
        break
    end = os.lseek(fd, start, os.SEEK_HOLE)
    while start < end:
        start += os.preadv(fd, [buffer[: min(len(buffer), end - start)]], start)
