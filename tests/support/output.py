"""What jobs of the load (load.py) print whose output is known to the byte."""

from __future__ import annotations

STDIN = bytes(range(256)) * 4000
LIMIT_BYTES = 100_000


def expected_output(kind: str, name: str) -> bytes | None:
    """All that a job of that kind prints to stdout when it is left alone; None: nothing that is known."""
    if kind == "count":
        return b"".join(b"%d\n" % number for i in range(1, 11) for number in range(i * 100_000, i * 100_000 + 100_000))
    if kind == "lines":
        return b"".join(b"line %d of %s\n" % (number, name.encode()) for number in range(9999))
    if kind == "limit":
        whole = b"".join(b"%d\n" % number for number in range(1, 100_001))
        return whole[:LIMIT_BYTES] + b"\n[output beyond %d bytes was dropped]\n" % LIMIT_BYTES
    return STDIN if kind == "copy" else None
