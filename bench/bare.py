"""python -m bench.bare: a plain grpcio server, to see what grpcio itself withstands."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

THREADS = 304
"""The largest number of threads that a worker has."""


class Echo(grpc.GenericRpcHandler):
    """Answers every call with its request."""

    def service(self, handler_call_details: Any) -> Any:
        """The same handler for every method."""
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def main(arguments: list[str]) -> None:
    """Serve on a free port, print the address, and stop when stdin ends. Arguments: certificate and key for TLS."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((Echo(),))
    if arguments:
        crt, key = (Path(name).read_bytes() for name in arguments)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, crt)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), server.stop(None)), daemon=True).start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
