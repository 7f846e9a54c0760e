"""Each RPC against a real worker with real children."""

from __future__ import annotations

import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_bare_pb2_grpc
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub


def test_start_stream_query(daemon: Daemon) -> None:
    """A job runs, its output comes to its end, and its whole record can be asked for."""
    job_id = daemon.bash("echo out; echo err >&2; exit 1", labels={"night": "1"})
    assert daemon.text(job_id) == "out\nerr\n"
    answer = daemon.query(job_id)
    assert (answer.done, answer.error, answer.errorText) == (True, True, "exit status 1")
    job = answer.job
    assert (job.state, job.exitCode, job.outputBytes, dict(job.labels)) == (pb.JOB_STATE_FAILED, 1, 8, {"night": "1"})
    assert job.createdAt.ToSeconds() <= job.startedAt.ToSeconds() <= job.finishedAt.ToSeconds()
    assert job.maxRSSBytes > 0


def test_both_names(daemon: Daemon) -> None:
    """What is started under one full name is known under the other."""
    bare = worker_bare_pb2_grpc.WorkerStub(daemon.channel)
    job_id = bare.StartJob(pb.StartJobReq(command="echo", path="hello")).jobID
    assert daemon.text(job_id) == "hello\n"
    assert bare.QueryJob(pb.QueryJobReq(jobID=job_id)).done
    bare.StopJob(pb.StopJobReq(jobID=job_id))
    assert [message.output for message in bare.StreamJob(pb.StreamJobReq(path=job_id))] == ["hello\n"]


def test_health_and_reflection(daemon: Daemon) -> None:
    """A worker says that it serves, and what."""
    health = health_pb2_grpc.HealthStub(daemon.channel)
    for name in ("", "Worker", "jobscheduler.Worker"):
        status = health.Check(health_pb2.HealthCheckRequest(service=name)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(daemon.channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert {"Worker", "jobscheduler.Worker"} <= {service.name for service in answer.list_services_response.service}


def test_what_a_job_is_given(daemon: Daemon) -> None:
    """Words, arguments, environment, mark, directory and stdin arrive as they were ordered."""
    job_id = daemon.start(
        'bash -c \'printf "%s|" "$@" "$ADDED" "$TXWORKER_JOB_ID" "$PWD"; cat\' zero',
        "a b",
        "",
        "$HOME",
        env={"ADDED": "x y"},
        directory="/",
        stdin=b"in\n",
    )
    assert daemon.text(job_id) == f"a b||$HOME|x y|{job_id}|/|in\n"


def test_default_directory(daemon: Daemon) -> None:
    """Relative script paths are relative to where the worker was started, as with the existing worker."""
    (daemon.place / "hello.sh").write_text("echo hello from $PWD")
    assert daemon.text(daemon.start("bash", "hello.sh")) == f"hello from {daemon.place}\n"


def test_private_output(daemon: Daemon) -> None:
    """Output is in a file that carries the job's id and is nobody else's to read."""
    job_id = daemon.start("echo", "secret")
    daemon.end(job_id)
    file = daemon.output / f"{job_id}.out"
    assert file.read_bytes() == b"secret\n"
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (file, daemon.output)] == [0o600, 0o700]


def test_own_session(daemon: Daemon) -> None:
    """A job leads its own session, and its pid is in its record."""
    job_id = daemon.bash("echo $$ $(ps -o sid= -p $$)")
    pid, session = daemon.text(job_id).split()
    assert pid == session == str(daemon.query(job_id).job.pid)


def test_stop(daemon: Daemon) -> None:
    """TERM ends what heeds it, KILL what does not; again and afterwards a stop succeeds."""
    for script, text in [("echo up; exec sleep 100", "terminated"), ("trap '' TERM; echo up; sleep 100", "killed")]:
        job_id = daemon.bash(script)
        stream = daemon.stub.StreamJob(pb.StreamJobReq(path=job_id))
        assert next(iter(stream)).output == "up\n"
        for _ in range(2):
            daemon.stub.StopJob(pb.StopJobReq(jobID=job_id, grace=Duration(nanos=200_000_000)), timeout=LIMIT)
        answer = daemon.end(job_id)
        assert (answer.done, answer.error, answer.errorText) == (True, True, f"signal: {text}")
        assert answer.job.state == pb.JOB_STATE_STOPPED
        daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)


def test_stopped_well(daemon: Daemon) -> None:
    """A job that heeds TERM and exits with 0 was stopped, and says so: its error is not an exit status of 0."""
    for code, text in [(0, "stopped: exit status 0"), (3, "exit status 3")]:
        job_id = daemon.bash(f"trap 'exit {code}' TERM; echo up; while :; do sleep 0.05; done")
        assert next(iter(daemon.stub.StreamJob(pb.StreamJobReq(path=job_id)))).output == "up\n"
        daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
        answer = daemon.end(job_id)
        assert (answer.error, answer.errorText, answer.job.errorText) == (True, text, text)
        assert (answer.job.state, answer.job.exitCode) == (pb.JOB_STATE_STOPPED, code)


def test_timeouts(daemon: Daemon) -> None:
    """A job that runs or is silent for too long is ended, and says which it was."""
    for more, text in [
        ({"timeout": Duration(nanos=200_000_000)}, "timed out after 0.2 s: signal: terminated"),
        ({"quietTimeout": Duration(nanos=200_000_000)}, "no output for 0.2 s: signal: terminated"),
    ]:
        answer = daemon.end(daemon.start("sleep", "100", **more))
        assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_TIMED_OUT, text)


def test_request_id(daemon: Daemon) -> None:
    """The same request again starts nothing twice, also when it comes many times at once."""
    order = pb.StartJobReq(command="echo once", requestID="the-same")
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda _: daemon.stub.StartJob(order).jobID, range(50)))
    assert len(ids) == 1
    with pytest.raises(grpc.RpcError) as caught:
        daemon.start("echo twice", requestID="the-same")
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_one_second_deadlines(daemon: Daemon) -> None:
    """
    Thirty-two starts at once, each on a connection of its own, all keep the existing scheduler's deadline; tried again
    where the machine has no CPU for them, or for this client.
    """

    def start_one(number: int) -> str:
        with grpc.insecure_channel(daemon.addr, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = WorkerStub(channel)
            job_id = stub.StartJob(pb.StartJobReq(command="echo", path=str(number)), timeout=1).jobID
            stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=1)
            return job_id

    def all_in_time() -> list[str]:
        try:
            return list(pool.map(start_one, range(32)))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            return []

    with ThreadPoolExecutor(32) as pool:
        ids = wait_until(all_in_time, 4 * LIMIT)
    assert [daemon.text(job_id) for job_id in ids] == [f"{number}\n" for number in range(32)]


def test_flood(daemon: Daemon) -> None:
    """Three thousand calls at once, as when a scheduler asks after all its jobs, are all answered."""
    job_id = daemon.start("true")
    daemon.end(job_id)
    calls = [daemon.stub.QueryJob.future(pb.QueryJobReq(jobID=job_id), timeout=LIMIT) for _ in range(3000)]
    assert {call.result().job.jobID for call in calls} == {job_id}


def test_cpus(daemon: Daemon) -> None:
    """The worker keeps to one CPU, its jobs may run on all that it was started with."""
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    assert daemon.raw(daemon.start(sys.executable, "-c", code)).decode() == f"{sorted(os.sched_getaffinity(0))}\n"
    assert len(os.sched_getaffinity(daemon.process.pid)) == 1
