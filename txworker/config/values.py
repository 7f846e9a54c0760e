"""What the configuration says: one frozen value for each section."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from txworker.jobs import Limits


@dataclass(frozen=True)
class GrpcServer:
    """The section [grpc_server]: where and how the worker serves."""

    host: str = "127.0.0.1"  # IPv6 without its brackets
    port: int = 30000  # 0: the kernel picks one
    use_tls: bool = False
    crt_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None  # given: clients must present a certificate of this CA
    max_streams: int = 256
    max_connections: int = 0  # 0: as many as the limit of open descriptors allows with a reserve
    max_idle_seconds: float = 60.0  # a connection without a call; 0: for ever

    @property
    def addr(self) -> str:
        """host:port as it can be dialled."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Scheduler:
    """The section [scheduler]: who is told that the worker is there."""

    addr: str = ""  # empty: no scheduler
    advertise_addr: str = ""  # empty: the server's own address
    use_tls: bool = False
    ca_file: Path | None = None  # absent: the CAs that gRPC trusts by itself


@dataclass(frozen=True)
class Jobs:
    """The section [jobs]: what jobs are given, and how many there may be."""

    directory: Path
    output_directory: Path
    state_directory: Path  # beside the output directory, where nothing is said
    durability: str = "process"  # or "machine"
    keep_days: float = 0.0  # 0: for ever, as with the next two
    keep_jobs: int = 0
    keep_output_bytes: int = 0
    stop_grace_seconds: float = 10.0
    max_running: int = 0  # 0: no ceiling
    at_stop: str = "end"  # or "leave": to the next worker
    unattended_seconds: float = 0.0  # 0: for ever
    shim: bool = True  # False: jobs end with the worker (docs/architecture.md)
    leftovers: str = "end"  # or "keep"
    pin_worker: bool = True  # its threads to one CPU; jobs run on all
    use_cgroups: bool = True  # where the kernel and our rights allow it
    user: str = ""  # empty: the worker's own
    group: str = ""  # empty: the user's
    nice: int = 0
    oom_score_adj: int = 500
    limits: Limits = Limits()
    ceilings: Limits = Limits()


@dataclass(frozen=True)
class Config:
    """All paths are absolute: twistd changes directory when it becomes a daemon."""

    grpc_server: GrpcServer
    scheduler: Scheduler
    jobs: Jobs
    source: Path | None  # the file that was read


class ConfigError(Exception):
    """One mistake, as one sentence. `key` is dotted, or empty when the file as a whole is at fault."""

    def __init__(self, key: str, problem: str, source: Path | None = None) -> None:
        super().__init__(key, problem, source)
        self.key = key
        self.problem = problem
        self.source = source

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.source, self.key, self.problem) if part)
