"""Reads what a dirty bitmap of an NBD server calls changed, four reads of at most 2 MiB at a time: the least that an
incremental backup has to do. read-changed.py URI CONTEXT"""

import sys

import nbd

PIECE_BYTES = 2 << 20
IN_FLIGHT = 4
QUESTION_BYTES = (1 << 32) - (32 << 20)

uri, context = sys.argv[1:]
handle = nbd.NBD()
handle.add_meta_context(context)
handle.connect_uri(uri)
size = handle.get_size()

extents = []
end = 0


def on_extents(_context, offset, entries, _error):
    global end
    for length, flags in zip(entries[::2], entries[1::2]):
        if flags & 1:
            extents.append((offset, length))
        offset += length
    end = offset


while end < size:
    handle.block_status(min(QUESTION_BYTES, size - end), end, on_extents)

# Buffers are used again: pages that are new to the process would count as well.
free = {}
in_flight = 0
total = 0


def read(at, count):
    global in_flight, total
    while in_flight == IN_FLIGHT:
        handle.poll(-1)
    sized = free.setdefault(count, [])
    buffer = sized.pop() if sized else nbd.Buffer(count)

    def on_read(error):
        global in_flight
        assert error.value == 0
        in_flight -= 1
        sized.append(buffer)
        return 1

    in_flight += 1
    total += count
    handle.aio_pread(buffer, at, on_read)


for start, length in extents:
    for at in range(start, start + length, PIECE_BYTES):
        read(at, min(PIECE_BYTES, start + length - at))
while in_flight > 0:
    handle.poll(-1)
handle.shutdown()
print(len(extents), total)
