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

buffers = [nbd.Buffer(PIECE_BYTES) for _ in range(IN_FLIGHT)]
free = list(buffers)
total = 0
for start, length in extents:
    for at in range(start, start + length, PIECE_BYTES):
        while not free:
            handle.poll(-1)
        buffer = free.pop()
        count = min(PIECE_BYTES, start + length - at)
        total += count

        def on_read(error, buffer=buffer):
            assert error.value == 0
            free.append(buffer)
            return 1

        handle.aio_pread(buffer if count == PIECE_BYTES else nbd.Buffer(count), at, on_read)
while len(free) < IN_FLIGHT:
    handle.poll(-1)
handle.shutdown()
print(len(extents), total)
