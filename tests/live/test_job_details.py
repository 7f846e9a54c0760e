"""How a job was started, what it uses, signals to it, its variables, and lists by id and time, of a real worker."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_bare_pb2_grpc import WorkerStub as BareStub

ADaemon = Callable[..., Daemon]
WITHOUT_SHIM = "[jobs]\nshim = false\n"
WITHOUT_CGROUPS = "[jobs]\nuse_cgroups = false\n"

TREE = """
setsid sleep 300 &
(trap "" TERM; exec python3 -c 'import time; x = bytearray(64 << 20); print("big"); time.sleep(300)') &
until read -ra stat </proc/$$/stat && ((stat[13] + stat[14] >= 50)); do :; done
echo burnt; wait
"""
"""Three processes: a shell that burns half a second of CPU, one in a session of its own, and one of 64 MiB."""


@pytest.fixture(
    params=[
        pytest.param("", id="default"),
        pytest.param(WITHOUT_CGROUPS, id="no cgroups", marks=pytest.mark.slow),
        pytest.param(WITHOUT_SHIM, id="no shim", marks=pytest.mark.slow),
    ],
    scope="module",
)
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for each way to find a job's processes."""
    worker = Daemon(tmp_path_factory.mktemp("worker"), request.param)
    yield worker
    worker.close()


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status of a call that fails."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details() or ""


def send(worker: Daemon, job_id: str, number: int) -> None:
    worker.stub.SignalJob(pb.SignalJobReq(jobID=job_id, signal=number), timeout=LIMIT)


def usages(worker: Daemon, *job_ids: str) -> dict[str, pb.Usage]:
    answer = worker.stub.JobUsage(pb.JobUsageReq(jobIDs=job_ids), timeout=LIMIT)
    return {usage.jobID: usage for usage in answer.usages}


def prints(worker: Daemon, job_id: str, text: str) -> None:
    """Wait until the job has printed that."""
    wait_until(lambda: text in (worker.output / f"{job_id}.out").read_text())


def test_how_it_was_started(a_daemon: ADaemon) -> None:
    """A record says so, in QueryJob, lists and events; the values of variables are in none of them."""
    worker = a_daemon(f'[jobs]\ndirectory = "{Path.cwd().parent}"\n[jobs.limits]\nmax_open_files = 99\n')
    plain = worker.start("true")
    detailed = worker.start(
        "true",
        env={"TOKEN": "secret", "A": "secret"},
        directory="/tmp",
        timeout=Duration(seconds=60, nanos=500_000_000),
        quietTimeout=Duration(seconds=50),
        limits=pb.Limits(maxCPU=Duration(seconds=7)),
        separateStderr=True,
    )
    for job_id in (plain, detailed):
        worker.end(job_id)
    job, listed = worker.query(detailed).job, worker.stub.ListJobs(pb.ListJobsReq(idPrefix=detailed)).jobs[0]
    assert job == listed
    assert (job.directory, list(job.envNames), job.separateStderr) == ("/tmp", ["A", "TOKEN"], True)
    assert (job.timeout, job.quietTimeout) == (Duration(seconds=60, nanos=500_000_000), Duration(seconds=50))
    assert job.limits == pb.Limits(maxCPU=Duration(seconds=7), maxOpenFiles=99)
    assert (job.user, job.takeovers) == ("", 0)
    assert b"secret" not in job.SerializeToString()
    job = worker.query(plain).job
    assert (job.directory, list(job.envNames), job.separateStderr) == (str(Path.cwd().parent), [], False)
    assert not job.HasField("timeout")
    assert not job.HasField("quietTimeout")
    assert job.limits == pb.Limits(maxOpenFiles=99)


def test_takeovers(a_daemon: ADaemon) -> None:
    """Each worker that takes a job over counts, and what the job was started with stays as it was."""
    worker = a_daemon()
    job_id = worker.start("sleep", "300", directory="/tmp")
    done = worker.start("true")
    worker.end(done)
    workers = [worker]
    try:
        for count in (1, 2):
            workers[-1].stop(signal.SIGKILL)
            workers.append(Daemon(worker.place, "[jobs]\ndirectory = '/'\n"))
            job = workers[-1].query(job_id).job
            assert (job.takeovers, job.directory, job.state) == (count, "/tmp", pb.JOB_STATE_RUNNING)
        assert workers[-1].query(done).job.takeovers == 0
    finally:
        for one in reversed(workers[1:]):  # or the newest would start another shim in place of the one that is ended
            one.close()


def test_signals(worker: Daemon) -> None:
    """A signal reaches every process of the group, and ends the job only if the job ends by it."""
    script = "trap 'echo one' USR1; (trap 'echo two' USR1; echo up; while :; do sleep 0.1; done) & echo up; "
    job_id = worker.bash(script + "while :; do wait; done")
    wait_until(lambda: (worker.output / f"{job_id}.out").read_text().count("up") == 2)
    send(worker, job_id, signal.SIGUSR1)
    prints(worker, job_id, "one")
    prints(worker, job_id, "two")
    assert worker.query(job_id).job.state == pb.JOB_STATE_RUNNING
    send(worker, job_id, signal.SIGKILL)
    answer = worker.end(job_id)
    assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_FAILED, "signal: killed")
    code, text = refused(lambda: send(worker, job_id, signal.SIGKILL))
    assert (code, text) == (grpc.StatusCode.FAILED_PRECONDITION, f"job '{job_id}' is done: it has no process to signal")
    assert refused(lambda: send(worker, "nobody", 9))[0] == grpc.StatusCode.NOT_FOUND
    assert refused(lambda: send(worker, "", 9))[0] == grpc.StatusCode.INVALID_ARGUMENT
    for number in (0, -1, 65):
        code, text = refused(lambda number=number: send(worker, job_id, number))  # type: ignore[misc]
        assert (code, text) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            f"signal: {number} is not a signal: signals are 1 to 64",
        )


def test_usage(worker: Daemon) -> None:
    """What all processes of a job use, while it runs; nothing of one that is done."""
    idle, done = worker.start("sleep", "300"), worker.start("true")
    worker.end(done)
    tree = worker.bash(TREE)
    prints(worker, tree, "burnt")
    prints(worker, tree, "big")
    found = usages(worker)
    assert {idle, tree} <= found.keys()
    assert done not in found
    assert found[idle].processes == 1
    assert 0 < found[idle].rssBytes < 32 * 2**20
    assert found[tree].processes == 3
    assert 64 * 2**20 < found[tree].rssBytes < 256 * 2**20
    cpu = found[tree].userCPU.ToTimedelta() + found[tree].systemCPU.ToTimedelta()
    assert 0.3 < cpu.total_seconds() < 10
    assert set(usages(worker, idle, done)) == {idle}
    assert refused(lambda: usages(worker, idle, "nobody"))[0] == grpc.StatusCode.NOT_FOUND
    bare = BareStub(worker.channel).JobUsage(pb.JobUsageReq(jobIDs=[idle]), timeout=LIMIT)
    assert [usage.jobID for usage in bare.usages] == [idle]
    for job_id in (idle, tree):
        worker.stub.StopJob(pb.StopJobReq(jobID=job_id, grace=Duration()), timeout=LIMIT)
        worker.end(job_id)
    assert usages(worker) == {}


def test_lists(daemon: Daemon) -> None:
    """By the beginning of an id, and by the time of creation: running and finished jobs, in pages."""
    ids = []
    for script in ("true", "sleep 300", "true", "false"):
        ids.append(daemon.bash(script))
        time.sleep(0.01)
    for job_id in (ids[0], ids[2], ids[3]):
        daemon.end(job_id)

    def listed(**request: object) -> list[str]:
        return [job.jobID for job in daemon.stub.ListJobs(pb.ListJobsReq(**request), timeout=LIMIT).jobs]  # type: ignore[arg-type]

    for job_id in ids:
        assert listed(idPrefix=job_id) == [job_id]
        assert job_id in listed(idPrefix=job_id[0])
        assert listed(idPrefix=job_id[:13])[:1] == [job_id]
    created = [daemon.query(job_id).job.createdAt for job_id in ids]
    assert listed(since=created[1], until=created[3]) == [ids[2], ids[1]]
    assert listed(since=created[0]) == ids[::-1]
    assert listed(since=created[0], states=[pb.JOB_STATE_RUNNING]) == [ids[1]]
    assert listed(until=created[0]) == []
    first = daemon.stub.ListJobs(pb.ListJobsReq(since=created[0], pageSize=3), timeout=LIMIT)
    assert [job.jobID for job in first.jobs] == ids[:0:-1]
    assert listed(since=created[0], pageSize=3, pageToken=first.nextPageToken) == ids[:1]
    for request, field in (
        ({"pageToken": first.nextPageToken}, "pageToken"),
        ({"idPrefix": "%"}, "idPrefix"),
        ({"since": Timestamp(nanos=-1)}, "since"),
        ({"since": created[1], "until": created[1]}, "until"),
    ):
        code, text = refused(lambda request=request: listed(**request))  # type: ignore[misc]
        assert (code, text.partition(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)


PRINTS = "import os, time; print('printed', os.environ.get('PYTHONUNBUFFERED')); time.sleep(300)"


def test_python_loses_nothing(a_daemon: ADaemon) -> None:
    """A Python job that is killed has written what it printed, unless the request or the configuration says not to."""
    worker = a_daemon('[jobs.environment]\nGIVEN = "by the worker"\nBOTH = "by the worker"\n')
    job_id = worker.start("python3", "", "-c", PRINTS)
    prints(worker, job_id, "printed 1\n")
    buffered = worker.start("python3", "", "-c", PRINTS, env={"PYTHONUNBUFFERED": ""})
    echo = worker.bash('echo "$GIVEN, $BOTH"', env={"BOTH": "by the request"})
    assert worker.raw(echo) == b"by the worker, by the request\n"
    time.sleep(0.5)
    for one in (job_id, buffered):
        worker.stub.StopJob(pb.StopJobReq(jobID=one, grace=Duration()), timeout=LIMIT)
        worker.end(one)
    assert [worker.raw(one) for one in (job_id, buffered)] == [b"printed 1\n", b""]
    without = a_daemon('[jobs.environment]\nPYTHONUNBUFFERED = ""\n')
    assert without.raw(without.bash('echo "<$PYTHONUNBUFFERED>"')) == b"<>\n"
