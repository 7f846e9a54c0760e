"""A TCP proxy that cuts every connection after a short while, in the middle of whatever passes through it."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

OFTEN = (0.05, 0.5)
HARDLY_EVER = (1e6, 1e6)
"""Between which two a connection lives, in seconds."""

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class CuttingProxy:
    """
    Listens on `addr`, and passes on to `upstream`, which may be changed: then that counts for connections to come.

    `cuts` counts the connections that were cut.
    """

    def __init__(self, upstream: str, seconds: tuple[float, float], seed: int = 1) -> None:
        self.addr = ""
        self.cuts = 0
        self.upstream = upstream
        self._seconds = seconds
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """Take no more connections, and end those there are."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accepted, "127.0.0.1", 0))
        self.addr = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self.upstream.rsplit(":", 1)
        try:
            from_worker, to_worker = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        ways = [asyncio.ensure_future(_pass_on(*way)) for way in ((reader, to_worker), (from_worker, writer))]
        _, cut = await asyncio.wait(
            ways, timeout=self._random.uniform(*self._seconds), return_when=asyncio.FIRST_COMPLETED
        )
        self.cuts += len(cut) == len(ways)
        for way in cut:
            way.cancel()
        for one in (writer, to_worker):
            with suppress(OSError):  # closed by the other end already
                one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@contextmanager
def cutting_proxy(upstream: str, seconds: tuple[float, float] = OFTEN) -> Iterator[CuttingProxy]:
    """A proxy in front of that address, for as long as the block runs."""
    proxy = CuttingProxy(upstream, seconds)
    try:
        yield proxy
    finally:
        proxy.close()
