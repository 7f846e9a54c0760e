"""The lines that the worker itself writes into an output file, to say what is missing there."""

from __future__ import annotations

from txworker.jobs import Loss


class Notices:
    """
    The notices that are due, in the order in which they go before the next bytes of the job.

    A notice that the disk takes only in part is finished first. The count of refused bytes grows until its notice is
    written.
    """

    __slots__ = ("_at_least", "_ceiling", "_rest", "_tampering", "reason", "refused_bytes")

    def __init__(self, refused_before: int = 0) -> None:
        """refused_before: bytes that the disk refused an earlier worker, or the shim, which may have lost more."""
        self._rest = b""
        self._tampering = b""
        self._ceiling = b""
        self._at_least = bool(refused_before)
        self.refused_bytes = refused_before  # since the last notice
        self.reason = "the disk refused them"

    @property
    def has_tampering(self) -> bool:
        """A notice about a cut, deleted or replaced file is due."""
        return bool(self._tampering)

    def tampered(self, loss: Loss, position: int) -> None:
        """Bytes were lost because another program changed the file; the notice will be at `position`."""
        count, action = loss.end - loss.begin, f"another program has {loss.what} the file"
        where = "were lost here" if loss.end == position else f"from offset {loss.begin} on were lost"
        self._tampering = f"\n[{count} bytes of output {where}: {action}]\n".encode()

    def ceiling(self, max_bytes: int, written: bytes = b"") -> None:
        """Output beyond `max_bytes` is dropped; `written` is what the file has beyond them, perhaps a part of this."""
        line = f"\n[output beyond {max_bytes} bytes was dropped]\n".encode()
        self._ceiling = line.removeprefix(written) if line.startswith(written) else line

    def next(self) -> bytes:
        """The notice to be written next; empty when none is due."""
        return self._rest or self._refusal() or self._tampering or self._ceiling

    def took(self, notice: bytes, count: int) -> None:
        """The disk took the first `count` bytes of what next() returned; at least one."""
        if self._rest:
            pass
        elif self.refused_bytes:
            self.refused_bytes = 0
        elif self._tampering:
            self._tampering = b""
        else:
            self._ceiling = b""
        self._rest = notice[count:]

    def _refusal(self) -> bytes:
        if not self.refused_bytes:
            return b""
        count = f"at least {self.refused_bytes}" if self._at_least else f"{self.refused_bytes}"
        return f"\n[{count} bytes of output were lost here: {self.reason}]\n".encode()
