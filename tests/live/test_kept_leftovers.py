"""Processes that a job leaves behind and that are kept: they print on, with a worker and without."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.daemon import Daemon, wait_until
from tests.support.named_processes import alive, end
from txworker.pb import worker_pb2 as pb

LEFT = "for n in $(seq 100000); do echo line $n; sleep 0.01; done"
"""Prints for a quarter of an hour and more, unless it is ended, what its descriptors lead to."""


def lines(daemon: Daemon, job_id: str, **more: Any) -> list[int]:
    """The numbers of the lines that it has printed so far."""
    whole = daemon.raw(job_id, noFollow=True, **more)
    return [int(line.split()[1]) for line in whole[: whole.rindex(b"\n") + 1].splitlines() if line.startswith(b"line")]


@pytest.mark.parametrize(("default", "asked"), [pytest.param("keep", "", marks=pytest.mark.slow), ("end", "keep")])
def test_kept(a_daemon: Callable[..., Daemon], default: str, asked: str) -> None:
    """
    What is kept goes on printing when its job is done, beside a worker, without one and beside the next; not one line
    is missing, and viewers find them.
    """
    daemon = a_daemon(f'[jobs]\nleftovers = "{default}"\n')
    name = f"kept-{os.getpid()}-{default}"
    script = f"setsid bash -c '{LEFT}' {name} & setsid bash -c 'sleep 60; :' {name} >/dev/null 2>&1 &"
    again = None
    try:
        job_id = daemon.bash(script, leftovers=asked)
        daemon.end(job_id)
        mine = daemon.query(job_id).job
        assert (mine.state, mine.leftoversEnded) == (pb.JOB_STATE_SUCCEEDED, 0)
        before = lines(daemon, job_id)[-1]
        wait_until(lambda: lines(daemon, job_id)[-1] > before + 5)
        other = daemon.bash("setsid sleep 61 & echo", leftovers="end")
        assert daemon.end(other).job.leftoversEnded == 1
        daemon.stop()
        size = (daemon.output / f"{job_id}.out").stat().st_size
        wait_until(lambda: (daemon.output / f"{job_id}.out").stat().st_size > size + 50)
        again = Daemon(daemon.place, daemon.settings)
        before = lines(again, job_id)[-1]
        wait_until(lambda: lines(again, job_id)[-1] > before + 5)
        printed = lines(again, job_id)
        assert printed == list(range(1, len(printed) + 1))
        wait_until(lambda: len(alive(name)) == 2)  # for a moment, what bash starts has its arguments
        again.stop()
        wait_until(lambda: len(alive(name)) == 2)  # for a moment, what bash starts has its arguments
    finally:
        end(name)
        if again is not None:
            again.close()


@pytest.mark.slow
def test_kept_beside_what_is_taken_over(a_daemon: Callable[..., Daemon]) -> None:
    """A worker that is killed leaves what is kept to the shim; the next one ends neither that nor the shim."""
    daemon = a_daemon()
    name = f"kept-{os.getpid()}-killed"
    again = None
    try:
        running = daemon.bash("sleep 60")
        job_id = daemon.bash(
            f"(setsid bash -c '{LEFT}' {name} &) ; (setsid sleep 60 >/dev/null 2>&1 &)", leftovers="keep"
        )
        daemon.end(job_id)
        daemon.stop(signal.SIGKILL)
        again = Daemon(daemon.place, daemon.settings)
        assert again.query(running).job.state == pb.JOB_STATE_RUNNING
        assert again.end(again.bash("setsid sleep 61 & echo", leftovers="end")).job.leftoversEnded == 1
        before = lines(again, job_id)[-1]
        wait_until(lambda: lines(again, job_id)[-1] > before + 20)
        again.stop()
        wait_until(lambda: len(alive(name)) == 1)
    finally:
        end(name)
        if again is not None:
            again.close()


@pytest.mark.slow
def test_kept_in_a_stop(a_daemon: Callable[..., Daemon]) -> None:
    """A worker is killed while it stops two jobs: the shim ends what one has left behind, and spares what is kept."""
    daemon = a_daemon()
    names = {leftovers: f"stopped-{os.getpid()}-{leftovers}" for leftovers in ("keep", "end")}
    try:
        job_ids = []
        for leftovers, name in names.items():
            left = f"""bash -c 'trap "" TERM; echo up; while :; do sleep 0.1; done' {name}"""
            job_ids.append(daemon.bash(f"trap 'exit 0' TERM; {left} & wait", leftovers=leftovers))
        for job_id in job_ids:
            wait_until(lambda job_id=job_id: daemon.raw(job_id, noFollow=True))  # type: ignore[misc]
        for job_id in job_ids:
            daemon.stub.StopJob(pb.StopJobReq(jobID=job_id, grace=Duration(seconds=1)))
        daemon.stop(signal.SIGKILL)
        wait_until(lambda: not alive(names["end"]))
        assert alive(names["keep"])
    finally:
        for name in names.values():
            end(name)


def test_kept_within_its_limit(daemon: Daemon) -> None:
    """What a job left prints no more than the job may; where it was cut a line says so. It does not wait, nor die."""
    name = f"kept-{os.getpid()}-limit"
    go = daemon.place / name
    left = f"until [ -e {go} ]; do sleep 0.02; done; head -c 9000 /dev/zero; sleep 60; :"
    script = f"echo begun; (setsid bash -c '{left}' {name} &)"
    try:
        job_id = daemon.bash(script, leftovers="keep", limits=pb.Limits(maxOutputBytes=1000))
        daemon.end(job_id)
        go.touch()
        wait_until(lambda: b"dropped" in daemon.raw(job_id))
        assert daemon.raw(job_id) == b"begun\n" + bytes(994) + b"\n[output beyond 1000 bytes was dropped]\n"
        assert alive(name)
    finally:
        end(name)
