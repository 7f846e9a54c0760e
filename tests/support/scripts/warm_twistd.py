"""twistd, which has imported all that a worker needs, and begins when it is told how: arguments and directory."""

from __future__ import annotations

import json
import os
import socket
import sys

OURS = {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "NONE"}
"""As a worker sets them before it imports gRPC."""

os.environ.update(OURS)

import twisted.application.app  # noqa: E402
import twisted.scripts.twistd  # noqa: E402

import txworker.daemon.assembly  # noqa: E402, F401


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as told:
        message, (output,), _, _ = socket.recv_fds(told, 1 << 20, 1)
    for fd in (1, 2):
        os.dup2(output, fd)
    os.close(output)
    for name in OURS:
        del os.environ[name]
    order = json.loads(message)
    os.chdir(order["directory"])
    sys.argv = order["argv"]
    sys.path[0] = os.path.dirname(sys.argv[0])
    twisted.scripts.twistd.run()


if __name__ == "__main__":
    main()
