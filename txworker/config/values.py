"""The configuration: one frozen value for each section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from txworker.base.addresses import join_address
from txworker.jobs import Limits


@dataclass(frozen=True)
class GrpcServer:
    """The section [grpc_server]: where and how the worker serves."""

    host: str = "127.0.0.1"  # IPv6 without its brackets
    port: int = 30000  # 0: the kernel picks one
    use_tls: bool = False
    crt_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None  # set: clients must present a certificate of this CA
    max_streams: int = 256
    max_connections: int = 0  # 0: as many as the limit of open descriptors allows, less a reserve
    max_idle_seconds: float = 60.0  # before a connection without a call is closed; 0: never

    @property
    def addr(self) -> str:
        """host:port as it can be dialled."""
        return join_address(self.host, self.port)


@dataclass(frozen=True)
class Worker:
    """The section [worker]: what the worker is called."""

    name: str = ""  # empty: made of the host's name at the first start


@dataclass(frozen=True)
class Scheduler:
    """The section [scheduler]: the scheduler that the worker registers with."""

    addr: str = ""  # empty: no scheduler
    advertise_addr: str = ""  # empty: the server's own address
    use_tls: bool = False
    ca_file: Path | None = None  # None: the CAs that gRPC trusts by default
    addrs: tuple[str, ...] = ()  # several schedulers, instead of addr
    when_lost: str = "keep"  # or "drain", "stop"
    lost_after_seconds: float = 600.0

    @property
    def all_addrs(self) -> tuple[str, ...]:
        """The address of every scheduler, in the order in which they are tried; none: the worker does not register."""
        return self.addrs or ((self.addr,) if self.addr else ())


@dataclass(frozen=True)
class Jobs:
    """The section [jobs]: how jobs run, how many at a time, and how long finished ones are kept."""

    directory: Path
    output_directory: Path
    state_directory: Path  # default: beside the output directory
    durability: str = "process"  # or "machine"
    keep_days: float = 0.0  # 0: no limit, as in the next two
    keep_jobs: int = 0
    keep_output_bytes: int = 0
    stop_grace_seconds: float = 10.0
    max_running: int = 0  # 0: no ceiling
    at_stop: str = "end"  # or "leave": jobs run on for the next worker
    unattended_seconds: float = 0.0  # 0: no limit
    shim: bool = True  # False: jobs end with the worker (docs/architecture.md)
    leftovers: str = "end"  # or "keep"
    pin_worker: bool = True  # the worker's threads use one CPU; jobs use all
    use_cgroups: bool = True  # where the kernel and the worker's rights allow it
    user: str = ""  # empty: the worker's user
    group: str = ""  # empty: the user's group
    nice: int = 0
    oom_score_adj: int = 500
    limits: Limits = Limits()
    ceilings: Limits = Limits()
    environment: Mapping[str, str] = field(default_factory=dict)  # variables that jobs get


@dataclass(frozen=True)
class Log:
    """The section [log]: how the log looks, and what is in it."""

    format: str = "text"  # or "json", "journald"
    level: str = "info"  # the lowest that is written: "debug", "info", "warn", "error" or "critical"
    rotate_bytes: int = 0  # the worker renames its log file at this size; 0: that is left to logrotate


@dataclass(frozen=True)
class Web:
    """The section [web]: where metrics and health are served by HTTP."""

    host: str = ""  # empty: nowhere; IPv6 without its brackets
    port: int = 0  # 0: the kernel picks one
    page: bool = False  # the page that shows this worker's jobs, under /page/

    @property
    def addr(self) -> str:
        """host:port as it can be dialled; empty: nowhere."""
        return join_address(self.host, self.port) if self.host else ""


@dataclass(frozen=True)
class Tracing:
    """The section [tracing]: where spans of calls and jobs are sent."""

    endpoint: str = ""  # empty: as the environment says; if that says nothing, nothing is traced
    service_name: str = ""  # empty: OTEL_SERVICE_NAME, or else txworker
    sample_ratio: float = 1.0  # of the traces that begin here; 1: as the environment says


@dataclass(frozen=True)
class Config:
    """The whole file. All paths are absolute, because twistd changes its directory when it becomes a daemon."""

    grpc_server: GrpcServer
    scheduler: Scheduler
    jobs: Jobs
    source: Path | None  # the file that was read; None: the defaults
    worker: Worker = Worker()
    log: Log = Log()
    web: Web = Web()
    tracing: Tracing = Tracing()


class ConfigError(Exception):
    """One mistake, in one sentence. `key` is dotted, or empty when the file as a whole is wrong."""

    def __init__(self, key: str, problem: str, source: Path | None = None) -> None:
        super().__init__(key, problem, source)
        self.key = key
        self.problem = problem
        self.source = source

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.source, self.key, self.problem) if part)
