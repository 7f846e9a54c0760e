"""What the machine can do at best, measured beside each figure."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent import futures
from pathlib import Path

import grpc

BLOCK_BYTES = 256 * 1024


def spawn_rate(count: int) -> float:
    """Processes per second of a bare loop: os.posix_spawn of /bin/true, then waitpid."""
    environment = dict(os.environ)
    begun = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], environment), 0)
    return count / (time.perf_counter() - begun)


def write_seconds(command: list[str], path: Path) -> float:
    """How long that program takes to write straight into a file."""
    with path.open("wb") as file:
        begun = time.perf_counter()
        subprocess.run(command, stdout=file, check=True)
        seconds = time.perf_counter() - begun
    path.unlink()
    return seconds


class BareServer:
    """A grpcio server with nothing behind it: sends a file in blocks, echoes a request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        handlers = {
            "Send": grpc.unary_stream_rpc_method_handler(self._send),
            "Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(64))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Bare", handlers),))
        self.addr = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """End it."""
        self._server.stop(None).wait()

    def _send(self, request: bytes, context: grpc.ServicerContext) -> object:
        with self._path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                yield block
