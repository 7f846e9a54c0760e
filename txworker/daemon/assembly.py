"""
How the worker is put together: the only file that knows every room.

Imported when the service starts, not before: twistd forks to become a daemon, and nothing of gRPC may exist then.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from txworker.base.directory import Directory, refusal_for_root
from txworker.base.logs import Logger
from txworker.base.ratelimit import Allows, RateLimit
from txworker.config import Config, GrpcServer, Jobs, Scheduler
from txworker.config.checks import readers_of_key
from txworker.daemon import memory
from txworker.daemon.clockwatch import ClockWatch
from txworker.daemon.descriptors import DescriptorLimit
from txworker.daemon.drain import Drain
from txworker.daemon.handover import Handover
from txworker.daemon.lifetime import InOrder, Stopping
from txworker.daemon.processes import DRAIN_SECONDS, Processes
from txworker.daemon.takeover import take_over, unended_of
from txworker.jobs import Retention
from txworker.jobs.errors import StoreBroken
from txworker.leftovers.evidence import DeadJob
from txworker.leftovers.orphans import end_orphans
from txworker.linux.procfs import Process
from txworker.output.shelf import Shelf
from txworker.ports import World
from txworker.process.shim_start import ShimUnusable
from txworker.rpc import server as rpc
from txworker.rpc.bridge import Bridge
from txworker.rpc.control import ControlServicer, SocketWatch, control_door
from txworker.rpc.pems import CertificateFiles
from txworker.rpc.servicer import WorkerServicer
from txworker.rpc.tls import server_credentials
from txworker.scheduler import Link, Registration
from txworker.store.jobs import JobStore
from txworker.store.lease import BEAT_SECONDS, Lease, boot_ticks, take_lease
from txworker.worker.retention import RetentionService
from txworker.worker.worker import Policy, Worker

_LINES_OF_LINK = (10, 60.0)
"""Of each kind, in so many seconds."""

CLOSING_SECONDS = 5.0
"""How long the disk may take to write what is left when the worker ends."""

LOOK_SECONDS = 1.0
"""Between looks at whether others have done something to the output directory, or to a file of a job that runs."""

_log = Logger()


class NotUsable(Exception):
    """What a key of the configuration names cannot be used; the sentence begins with the key."""


def assemble(
    config: Config, reactor: Any, environment: Mapping[str, str], umask: int
) -> tuple[InOrder, Drain, Handover]:
    """
    Everything from the store to the scheduler's door, ready to be started in order; and how to drain it.

    What an earlier worker left unfinished is ended and written down as lost before this returns. environment and umask
    are what jobs inherit.

    Raises:
        NotUsable: the output directory cannot be used, or the state directory is not safe.
        Unusable: the state directory cannot be used.
    """
    jobs, serving = config.jobs, config.grpc_server
    trouble, limit, limit_of_link = _Trouble(), RateLimit(reactor), RateLimit(reactor, *_LINES_OF_LINK)
    _own_state(jobs.state_directory)
    lease = take_lease(jobs.state_directory)
    shelf = _shelf(jobs.output_directory)
    processes = _processes(jobs, reactor, environment, umask, lease)
    # After the shim: where that refuses this version, the one before must still find its store as it was.
    store = JobStore(jobs.state_directory, jobs.durability == "machine", reactor, trouble.heard, lease)
    processes.is_kept = _IsKept(store, by_default=jobs.leftovers == "keep")
    worker = _worker(jobs, processes, shelf, store, reactor)
    take_over(worker, store, shelf, processes, keep=jobs.leftovers == "keep")
    processes.lost = _ShimLost(worker, reactor).heard
    with suppress(OSError):  # a disk that refuses is told of by the store itself
        store.lease.remember(processes.cgroups)

    bridge = Bridge(reactor)
    handover = Handover(worker, jobs.at_stop == "leave", lambda: processes.can_leave, reactor.stop)
    control = ControlServicer(bridge, lambda: drain.begin(), handover.begin)
    door = control_door(jobs.state_directory, control)
    connections = _connections(serving, processes.descriptors)
    server = _server(serving, WorkerServicer(worker, bridge, limit.allows), bridge, connections, door)
    trouble.announce = server.announce
    scheduler = (
        [_registration(config.scheduler, server, reactor, limit_of_link.allows)] if config.scheduler.addr else []
    )

    def refuse() -> None:
        worker.refuse()
        server.announce_stopping()

    drain = Drain(reactor, worker, server.announce_stopping, scheduler, reactor.stop)
    within = jobs.stop_grace_seconds + DRAIN_SECONDS + 1.0

    def end() -> Deferred[None]:
        if handover.wanted and not processes.can_leave:
            _log.warn("Jobs cannot be left to the next worker, for they run without the shim; ending them.")
        return _leave_jobs(worker) if handover.leaves else _end_jobs(worker, reactor, within)

    ending = Stopping("jobs", end)
    stages: list[list[Service]] = [
        [Stopping("log", limit.close), Stopping("log", limit_of_link.close)],
        [
            Stopping("store", lambda: _close(store, reactor)),
            _heart(store, jobs.state_directory),
            _watch(shelf, reactor),
        ],
        [Stopping("processes", lambda: processes.close(handover.leaves))],
        [server],
        [ending, *scheduler, _retention(jobs, reactor, store, shelf, worker), _memory(reactor)],
        [Stopping("refusal", refuse)],
    ]
    return InOrder(stages), drain, handover


class _Trouble:
    """Passes on whether the store can be written, to health and to the log."""

    def __init__(self) -> None:
        self.announce: Callable[[bool], None] = lambda serving: None

    def heard(self, trouble: StoreBroken | None) -> None:
        if trouble is None:
            _log.info("The store can be written again.")
        else:
            _log.error("No new jobs until the store can be written again: {error}.", error=trouble)
        self.announce(trouble is None)


class _IsKept:
    """Of a finished job, whether what it left behind is to be left alone; of one that is not known, not."""

    def __init__(self, store: JobStore, by_default: bool) -> None:
        self._store = store
        self._by_default = by_default

    def __call__(self, job_id: str) -> bool:
        try:
            job = self._store.get(job_id)
        except StoreBroken:  # then it cannot be known, and what is ended cannot be brought back
            return True
        if job is None or not job.done:
            return False
        return job.spec.leftovers == "keep" if job.spec.leftovers else self._by_default


class _ShimLost:
    """Ends what is left of the jobs of a shim that has ended, and gives them up."""

    def __init__(self, worker: Worker, reactor: Any) -> None:
        self._worker = worker
        self._reactor = reactor

    def heard(self, pid: int) -> None:
        Deferred.fromCoroutine(self._give_up(pid)).addErrback(
            lambda failure: _log.failure("giving up the jobs of a shim that has ended", failure)
        )

    async def _give_up(self, pid: int) -> None:
        jobs = self._worker.running_jobs()
        left: list[Process] = []
        dead, now = [DeadJob(job.id, job.pid, job.started_ticks) for job in jobs], boot_ticks()
        ended = await deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), end_orphans, dead, lambda mark: False, now, left
        )
        if ended:
            _log.warn("{count} processes of lost jobs still ran and were ended.", count=ended)
        text = f"lost: the shim (pid {pid}), which had started it, ended without notice while it ran"
        await self._worker.shim_lost([job.id for job in jobs], text, unended_of(jobs, left))


def _processes(jobs: Jobs, reactor: Any, environment: Mapping[str, str], umask: int, lease: Lease) -> Processes:
    output = os.open(jobs.output_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return Processes(jobs, reactor, environment, umask, f"txworker-{lease.id}", output)
    except ShimUnusable as error:
        raise NotUsable(f"jobs.state_directory: {error}") from error


def _shelf(directory: Path) -> Shelf:
    key = "jobs.output_directory"
    try:
        shelf = Shelf(directory)
    except OSError as error:
        raise NotUsable(f"{key}: {error.filename or directory}: {error.strerror}") from error
    _warn_of(key, directory, shelf.permission_problem)
    return shelf


def _own_state(path: Path) -> None:
    """Made, if it is not there; a danger is told, or else what is opened in it by its path is what was meant."""
    key = "jobs.state_directory"
    try:
        directory = Directory(path)
    except OSError as error:
        raise NotUsable(f"{key}: {error.filename or path}: {error.strerror}") from error
    directory.close()
    if refusal_for_root(directory.permission_problem):
        raise NotUsable(f"{key}: {path}: {refusal_for_root(directory.permission_problem)}")
    _warn_of(key, path, directory.permission_problem)


def _warn_of(key: str, path: Path, danger: str) -> None:
    if danger:
        _log.warn("{key}: others can change what is in {path}: {danger}.", key=key, path=path, danger=danger)


def _worker(config: Jobs, processes: Processes, shelf: Shelf, store: JobStore, reactor: Any) -> Worker:
    keeps = config.leftovers == "keep"
    policy = Policy(config.max_running, config.stop_grace_seconds, config.limits, config.ceilings, keeps)
    elapsed = store.lease.elapsed
    world = World(time.time, elapsed, boot_ticks, lambda: str(uuid.uuid4()), lambda call: reactor.callLater(0, call))
    return Worker(processes.launcher, shelf, store, policy, world)


def _retention(config: Jobs, reactor: Any, store: JobStore, shelf: Shelf, worker: Worker) -> RetentionService:
    wanted = Retention(config.keep_days, config.keep_jobs, config.keep_output_bytes)

    def in_thread(call: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), call)

    return RetentionService(
        reactor, in_thread, store, shelf, worker.catalog.viewers, wanted, time.time, store.lease.elapsed
    )


def _heart(store: JobStore, directory: Path) -> TimerService:
    socket = SocketWatch(directory)
    clock_watch = ClockWatch(time.time, store.lease.elapsed, store.lease.stepped)

    def beat() -> None:
        clock_watch.look()
        socket.look()
        store.beat()

    return TimerService(BEAT_SECONDS, beat)


def _watch(shelf: Shelf, reactor: Any) -> TimerService:
    """In a thread, one look at a time, which nobody waits for: a disk that does not answer holds up nothing else."""
    under_way: list[Deferred[None]] = []

    def look() -> None:
        if not under_way:
            looked = deferToThreadPool(reactor, reactor.getThreadPool(), shelf.look)
            under_way.append(looked)
            looked.addErrback(lambda failure: _log.failure("looking after output", failure))
            looked.addCallback(lambda _: under_way.clear())

    return TimerService(LOOK_SECONDS, look)


def _memory(reactor: Any) -> TimerService:
    held = memory.Memory()

    def look() -> None:
        if held.grown:
            reactor.callInThread(held.give_back)

    return TimerService(memory.LOOK_SECONDS, look)


def _close(store: JobStore, reactor: Any) -> Deferred[None]:
    """A disk that does not answer must not keep the worker from ending."""
    return store.close().addTimeout(CLOSING_SECONDS, reactor)


def _server(
    config: GrpcServer,
    servicer: WorkerServicer,
    bridge: Bridge,
    connections: rpc.Connections,
    door: Callable[[Any], None],
) -> rpc.GrpcServer:
    if not config.use_tls and (config.crt_file or config.key_file):
        _log.warn("grpc_server.use_tls is false: crt_file and key_file are not used, calls come without TLS.")
    credentials = None
    if config.use_tls and config.crt_file and config.key_file:
        _warn_of_readers(config.key_file)
        files = CertificateFiles(config.crt_file, config.key_file, config.client_ca_file)

        def credentials() -> Any:
            return server_credentials(files)

    most = config.max_streams
    return rpc.GrpcServer(config.host, config.port, servicer, bridge, most, credentials, connections, door)


def _connections(config: GrpcServer, descriptors: DescriptorLimit) -> rpc.Connections:
    most = descriptors.for_connections
    if config.max_connections > most:
        _log.warn(
            "grpc_server.max_connections: {wanted} are more than the limit of open files allows beside jobs: {most}.",
            wanted=config.max_connections,
            most=most,
        )
    return rpc.Connections(min(config.max_connections or most, most), config.max_idle_seconds, descriptors.scarce)


def _warn_of_readers(key_file: Path) -> None:
    with suppress(OSError):  # told of when it is read
        readers = readers_of_key(key_file)
        if readers:
            _log.warn("grpc_server.key_file: {path} {readers}.", path=key_file, readers=readers)


def _registration(
    config: Scheduler, server: rpc.GrpcServer, reactor: Any, allows: Allows = lambda kind: True
) -> Registration:
    if not config.advertise_addr and server.host in ("", "0.0.0.0", "::"):
        text = (
            "scheduler.advertise_addr is not given: the scheduler is told {host}, where another machine finds nobody."
        )
        _log.warn(text, host=server.host)
    link = Link(reactor, config.addr, root_certificates=_bytes(config.ca_file), use_tls=config.use_tls)
    return Registration(reactor, link, lambda: config.advertise_addr or server.address, random.random, allows=allows)


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _leave_jobs(worker: Worker) -> Deferred[None]:
    """Fires when the next worker may have them."""

    def left(count: int) -> None:
        _log.info("{count} jobs are left to the next worker.", count=count)
        worker.close()

    return worker.leave_all().addCallback(left)


def _end_jobs(worker: Worker, reactor: Any, within_seconds: float) -> Deferred[None]:
    """Fires when every job is done, or when even KILL did not end one (a process the kernel cannot end)."""

    def give_up(failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        _log.error(
            "Jobs {job_ids} could not be ended, or their ends not be written; the worker goes without them.",
            job_ids=worker.running_ids(),
        )
        worker.give_up()

    return (
        worker.stop_all().addTimeout(within_seconds, reactor).addErrback(give_up).addCallback(lambda _: worker.close())
    )
