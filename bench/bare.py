"""python -m bench.bare: a gRPC server of grpcio and nothing else, to see what grpcio itself withstands."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

THREADS = 304
"""As many as a worker has at most."""


class Echo(grpc.GenericRpcHandler):
    """Answers whatever is called with what it was sent."""

    def service(self, handler_call_details: Any) -> Any:
        """The same for every name."""
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def main(arguments: list[str]) -> None:
    """Serve on a free port, which is printed, until stdin ends; with TLS where a certificate and a key are named."""
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
