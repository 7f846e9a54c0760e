"""A worker whose store is only in memory, the floor of bench/store.py. Takes twistd's arguments."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # before gRPC is imported, as in daemon/service.py
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet.defer import Deferred, succeed
from twisted.scripts.twistd import run

from tests.support.memory_store import MemoryStore
from txworker.daemon import core
from txworker.store.lease import Lease


class ForgetfulStore(MemoryStore):
    """Replaces JobStore; only the lease is real."""

    def __init__(self, directory: Path, fsync: bool, reactor: Any, troubled: Any, lease: Lease, *observer: Any) -> None:
        super().__init__()
        self.lease = lease
        self.forgot = False

    def beat(self) -> None:
        """Renew the lease."""
        self.lease.beat()

    def close(self) -> Deferred[None]:
        """Release the lease."""
        self.lease.close()
        return succeed(None)


if __name__ == "__main__":
    core.JobStore = ForgetfulStore  # type: ignore[assignment, attr-defined]
    run()
