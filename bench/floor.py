"""The best that the machine can do, measured beside each figure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

BLOCK_BYTES = 256 * 1024


def spawn_rate(count: int) -> float:
    """Processes per second of a bare loop: os.posix_spawn() of /bin/true, then waitpid()."""
    environment = dict(os.environ)
    begun = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], environment), 0)
    return count / (time.perf_counter() - begun)


def write_seconds(command: list[str], path: Path) -> float:
    """Seconds that a program takes to write to a file."""
    with path.open("wb") as file:
        begun = time.perf_counter()
        subprocess.run(command, stdout=file, check=True)
        seconds = time.perf_counter() - begun
    path.unlink()
    return seconds


class BareServer:
    """A plain grpcio server that sends a file in blocks and echoes requests."""

    def __init__(self, path: Path) -> None:
        self._path = path
        handlers: dict[str, Any] = {
            "Send": grpc.unary_stream_rpc_method_handler(self._send),
            "Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(64))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Bare", handlers),))
        self.addr = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.stop(None).wait()

    def _send(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        with self._path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                yield block


@contextmanager
def bare_server(path: Path) -> Iterator[str]:
    """A BareServer in its own process, as the worker is; its address."""
    command = [sys.executable, "-m", "bench.floor", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def _serve_until_told(path: Path) -> None:
    server = BareServer(path)
    print(server.addr, flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _serve_until_told(Path(sys.argv[1]))
