"""Streams: complete, in order, as many as wanted, and in nobody's way."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.methods import METHODS, begin
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub
from txworker.rpc.admission import REFLECTION_CALLS

MANY = 500

ALTERNATE = """
import os
for number in range(10_000):
    os.write(1 + number % 2, b"%d\\n" % number)
"""


def test_order(daemon: Daemon) -> None:
    """Ten thousand writes, now to stdout, now to stderr, arrive in the order in which they were written."""
    output = daemon.raw(daemon.start(sys.executable, "-c", ALTERNATE))
    assert output.split() == [b"%d" % number for number in range(10_000)]


def test_stderr_apart(daemon: Daemon) -> None:
    """Kept apart on request, each stream is whole by itself."""
    job_id = daemon.start(sys.executable, "-c", ALTERNATE, separateStderr=True)
    for stderr in (False, True):
        expected = [b"%d" % number for number in range(int(stderr), 10_000, 2)]
        assert daemon.raw(job_id, stderr=stderr).split() == expected


def test_live(daemon: Daemon) -> None:
    """A line arrives while its job still runs, and the stream ends by itself when the job does."""
    os.mkfifo(daemon.place / "gate")
    job_id = daemon.bash("echo one; read line < gate; echo two")
    stream = daemon.stub.StreamJob(pb.StreamJobReq(path=job_id), timeout=LIMIT)
    assert next(iter(stream)).output == "one\n"
    assert not daemon.query(job_id).done
    (daemon.place / "gate").write_text("go\n")
    assert [message.output for message in stream] == ["two\n"]


def test_background_child_holds_stdout(daemon: Daemon) -> None:
    """Something left behind that holds the output open keeps neither the job nor its stream from ending."""
    begun = time.monotonic()
    scripts = ("sleep 1000 & echo out", "setsid sleep 30 & echo out", "trap '' TERM; sleep 30 & echo out")
    for job_id in [daemon.bash(script) for script in scripts]:
        assert daemon.text(job_id) == "out\n"
        assert daemon.query(job_id).job.state == pb.JOB_STATE_SUCCEEDED
    assert time.monotonic() - begun < 15


def test_parts(daemon: Daemon) -> None:
    """From an offset, from the last lines, and of a running job only what is there now."""
    job_id = daemon.bash("printf 'a\\nb\\nc\\nd'")
    daemon.end(job_id)
    assert daemon.raw(job_id, offset=2) == b"b\nc\nd"
    assert daemon.raw(job_id, tailLines=2) == b"c\nd"
    assert daemon.raw(job_id, offset=7) == b""
    assert daemon.raw(job_id, noFollow=True) == b"a\nb\nc\nd"
    running = daemon.bash("printf 'now\\303'; exec sleep 1000")
    wait_until(lambda: daemon.query(running).job.outputBytes == 4)
    assert daemon.raw(running, noFollow=True) == b"now\xc3"
    assert daemon.text(running, noFollow=True) == "now"
    daemon.stub.StopJob(pb.StopJobReq(jobID=running))


def test_from_end(daemon: Daemon) -> None:
    """From the end means only what comes from now on, of stdout and of stderr."""
    script = 'echo old; echo old >&2; while [ ! -e "$0" ]; do echo new; echo new >&2; sleep 0.02; done'
    stop = daemon.place / "seen"
    job_id = daemon.start("bash", "-c", script, str(stop), separateStderr=True)
    wait_until(lambda: daemon.query(job_id).job.outputBytes >= 8)
    requests = [pb.StreamJobReq(path=job_id, fromEnd=True, stderr=stderr) for stderr in (False, True)]
    streams = [daemon.stub.StreamJob(request, timeout=LIMIT) for request in requests]
    first = [next(iter(stream)) for stream in streams]
    assert [message.output[:4] for message in first] == ["new\n", "new\n"]
    assert all(message.offset >= 4 for message in first)
    assert daemon.raw(job_id, fromEnd=True, noFollow=True) == b""
    stop.touch()
    assert [set("".join(message.output for message in stream).split()) <= {"new"} for stream in streams] == [True] * 2
    assert list(daemon.stub.StreamJob(requests[0], timeout=LIMIT)) == []


def cpu_seconds(worker: Daemon) -> float:
    """All that it has used so far."""
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_viewer_leaves_while_lines_are_counted(daemon: Daemon) -> None:
    """However large a file is, for a viewer whose deadline is over it is not read on."""
    job_id = daemon.bash("echo up; exec sleep 1000", separateStderr=True)
    wait_until(lambda: daemon.query(job_id).job.outputBytes)
    for ending in ("out", "err"):
        os.truncate(daemon.output / f"{job_id}.{ending}", 40 * 2**30)  # no newline in it, and nothing on the disk
    begun = cpu_seconds(daemon)
    for lines in (1, 10**9, 2**62):
        for stderr in (False, True):
            with pytest.raises(grpc.RpcError) as late:
                list(daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id, tailLines=lines, stderr=stderr), timeout=0.1))
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    daemon.end(daemon.start("sleep", "0.3"))
    used = cpu_seconds(daemon)
    daemon.end(daemon.start("sleep", "0.3"))
    assert cpu_seconds(daemon) - used < 0.2
    assert used - begun < 2
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)


def test_far_away(daemon: Daemon) -> None:
    """A viewer of what nobody has seen yet does not keep the others awake; it gets it when it comes."""
    os.mkfifo(daemon.place / "far")
    job_id = daemon.bash("echo near; read line < far; printf %0100d 7")
    near = daemon.stub.StreamJob(pb.StreamJobReq(path=job_id), timeout=LIMIT)
    assert next(iter(near)).output == "near\n"
    far = daemon.stub.StreamJob(pb.StreamJobReq(path=job_id, offset=104), timeout=LIMIT)
    farther = daemon.stub.StreamJob(pb.StreamJobReq(path=job_id, offset=2**60), timeout=LIMIT)
    daemon.end(daemon.start("sleep", "0.2"))
    used = cpu_seconds(daemon)
    daemon.end(daemon.start("sleep", "0.5"))
    assert cpu_seconds(daemon) - used < 0.25
    (daemon.place / "far").write_text("go\n")
    assert len("".join(message.output for message in near)) == 100
    assert [message.output for message in far] == ["7"]
    with pytest.raises(grpc.RpcError) as caught:
        list(farther)
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE


def test_offsets_of_messages(daemon: Daemon) -> None:
    """Each message says where its first byte stands in the output."""
    job_id = daemon.start("head -c 1000000 /dev/zero")
    daemon.end(job_id)
    position = 10
    for message in daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True, offset=10)):
        assert (message.offset, message.output) == (position, "")
        position += len(message.data)
    assert position == 1_000_000


def test_text_is_valid(daemon: Daemon) -> None:
    """A character split across writes arrives whole, and bytes that are none become U+FFFD."""
    os.mkfifo(daemon.place / "rest")
    job_id = daemon.bash("printf 'caf\\303'; read line < rest; printf '\\251 \\377 \\342\\202'")
    stream = daemon.stub.StreamJob(pb.StreamJobReq(path=job_id), timeout=LIMIT)
    assert next(stream).output == "caf"
    (daemon.place / "rest").write_text("go\n")
    assert "".join(message.output for message in stream) == "é \ufffd \ufffd"


def test_nothing_printed(daemon: Daemon) -> None:
    """A job that printed nothing has a stream that ends well, soon or late."""
    job_id = daemon.start("sleep", "0.1")
    assert daemon.raw(job_id) == b""
    assert daemon.raw(job_id) == b""


def test_by_path(daemon: Daemon) -> None:
    """A path means the newest job that was started with it."""
    for number in (1, 2):
        daemon.end(daemon.start("echo", "by-path", str(number)))
    assert daemon.text("by-path") == "by-path 2\n"


def test_many_viewers(daemon: Daemon) -> None:
    """Every viewer gets the same bytes, whenever it came."""
    job_id = daemon.bash("for i in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/urandom; sleep 0.05; done")
    with ThreadPoolExecutor(24) as pool:
        outputs = list(pool.map(lambda _: daemon.raw(job_id), range(24)))
    assert len(outputs[0]) == 800_000
    assert len(set(outputs)) == 1
    assert outputs[0] == (daemon.output / f"{job_id}.out").read_bytes()


def test_ceiling(a_daemon: Callable[..., Daemon]) -> None:
    """Above the ceiling a stream is refused, other calls go on, and a viewer that leaves makes room."""
    worker = a_daemon(server="max_streams = 2")
    job_id = worker.bash("echo up; exec sleep 1000")
    streams = [worker.stub.StreamJob(pb.StreamJobReq(path=job_id)) for _ in range(2)]
    assert [next(iter(stream)).output for stream in streams] == ["up\n", "up\n"]
    with pytest.raises(grpc.RpcError) as caught:
        worker.raw(job_id)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc_server.max_streams: 2" in str(caught.value.details())
    worker.start("true")
    streams[0].cancel()

    def fits() -> bool:
        stream = worker.stub.StreamJob(pb.StreamJobReq(path=job_id))
        try:
            return bool(next(iter(stream)).output == "up\n")
        except grpc.RpcError:
            return False

    wait_until(fits)


def test_streams_of_others(a_daemon: Callable[..., Daemon]) -> None:
    """However many streams of reflection are opened without a request, the other calls go on."""
    worker = a_daemon(server="max_streams = 2")
    over = threading.Event()

    def no_requests() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        over.wait(LIMIT)
        yield from ()

    with grpc.insecure_channel(worker.addr) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        streams = [stub.ServerReflectionInfo(no_requests()) for _ in range(100)]
        wait_until(lambda: sum(stream.done() for stream in streams) == 98)
        worker.start("true")
        over.set()
        assert sum(stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED for stream in streams) == 98


def test_reflection_takes_no_stream(a_daemon: Callable[..., Daemon]) -> None:
    """Calls of reflection that stay open take no slot from viewers; they have a few of their own, which come free."""
    worker = a_daemon(server="max_streams = 2")
    over = threading.Event()
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    def one_request() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield request
        over.wait(LIMIT)

    with grpc.insecure_channel(worker.addr) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        held = []
        for _ in range(REFLECTION_CALLS):  # one after another: of those whose message is still to come there may be two
            held.append(stub.ServerReflectionInfo(one_request()))
            assert next(held[-1]).list_services_response.service
        with pytest.raises(grpc.RpcError, match="reflection: 8 calls are open already") as caught:
            next(stub.ServerReflectionInfo(one_request()))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        job_id = worker.bash("echo up; exec sleep 1000")
        viewers = [worker.stub.StreamJob(pb.StreamJobReq(path=job_id)) for _ in range(2)]
        assert [next(iter(viewer)).output for viewer in viewers] == ["up\n", "up\n"]
        over.set()

        def free() -> bool:
            try:
                return bool(list(stub.ServerReflectionInfo(iter([request]))))
            except grpc.RpcError:
                return False

        wait_until(free)


def test_stalled_viewer(daemon: Daemon) -> None:
    """A viewer that reads nothing holds up neither the job nor the other viewers."""
    job_id = daemon.bash("head -c 50000000 /dev/zero")
    channel = grpc.insecure_channel(daemon.addr, [("grpc.use_local_subchannel_pool", 1)])
    stalled = WorkerStub(channel).StreamJob(pb.StreamJobReq(jobID=job_id, raw=True))
    next(iter(stalled))
    assert len(daemon.raw(job_id)) == 50_000_000
    assert daemon.query(job_id).done
    channel.close()


@pytest.mark.parametrize("jobs", [100, pytest.param(MANY, marks=pytest.mark.slow)])
def test_many_short_jobs(a_daemon: Callable[..., Daemon], jobs: int) -> None:
    """Each of many jobs, 50 at a time, streamed from the moment its id is known, is complete; nothing is left."""
    worker = a_daemon()
    worker.end(worker.start("true"))
    descriptors, threads = worker.descriptors(), worker.threads()

    def is_complete(number: int) -> bool:
        return worker.text(worker.start("echo", str(number))) == f"{number}\n"

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(is_complete, range(jobs)))
    wait_until(lambda: worker.descriptors() <= descriptors)
    if jobs == MANY:
        wait_until(lambda: worker.threads() <= threads)  # each is idle for seconds before it ends


def test_left_at_once(a_daemon: Callable[..., Daemon]) -> None:
    """However many streams of whatever kind are left at once, or after a message, each gives its place back."""
    worker = a_daemon(server="max_streams = 16")
    job_id = worker.bash("echo up; exec sleep 1000")
    worker.end(worker.start("true"))
    requests = {
        "StreamJob": pb.StreamJobReq(jobID=job_id).SerializeToString(),
        "ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString(),
    }

    def begin_stream(method: MethodDescriptor) -> Any:
        return begin(worker.channel, method, requests.get(method.name, b""), timeout=LIMIT)

    def begin_and_leave(method: MethodDescriptor) -> None:
        for number in range(100):
            call = begin_stream(method)
            if number % 5 == 0:
                with suppress(grpc.RpcError):  # there may be no place
                    next(call)
            call.cancel()

    streaming = [method for method in METHODS if method.server_streaming]
    with ThreadPoolExecutor(len(streaming)) as pool:
        list(pool.map(begin_and_leave, streaming))
    for method in streaming:
        wait_until(lambda: all_read_one([begin_stream(method) for _ in range(16)]))  # noqa: B023
    assert worker.stop() == 0


def all_read_one(calls: list[Any]) -> bool:
    """There is a place for each of them."""
    try:
        for call in calls:
            next(call)
    except grpc.RpcError:
        return False
    finally:
        for call in calls:
            call.cancel()
    return True
