"""Clients that do to a worker what clients do, all at once, until it is killed. A journal keeps what they are told."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import grpc

from tests.support.daemon import LIMIT, Daemon
from tests.support.journal import Journal, View, done
from tests.support.output import LIMIT_BYTES, STDIN
from txworker.pb import worker_pb2 as pb

RUNNING = 50
"""Jobs at once, about."""

JOB = """
token=$2
nap() { (exec -a "$token" sleep 1000); }
apart() { setsid bash -c 'exec -a "$0" sleep 1000' "$token"; }
echo "$TXWORKER_JOB_ID" >>"$3"
case $1 in
    short) echo hello; exit "$((RANDOM % 3))" ;;
    lines) exec {f}<> <(:); for ((i = 0; i < 9999; i++)); do echo "line $i of $2"; read -rt 0.03 -u "$f"; done ;;
    flood) seq 1 "$RANDOM"; nap ;;
    stubborn) trap '' TERM HUP INT; echo no; nap; nap ;;
    daemon) (apart &) >/dev/null 2>&1; echo made; nap ;;
    leaver) (apart &) >/dev/null 2>&1; echo gone ;;
    session) apart & echo both; wait ;;
    bare) env -i bash -c 'exec -a "$0" sleep 1000' "$token" & echo bare; nap ;;
    errors) echo out; echo err >&2; nap ;;
    count) exec {f}<> <(:); for i in {1..10}; do seq "${i}00000" "${i}99999"; read -rt 0.02 -u "$f"; done; exit 7 ;;
    copy) cat; cat >&2; exit 0 ;;
    limit) seq 1 100000; exit 0 ;;
    hiding) (env -i setsid bash -c 'exec -a "$0" sleep 1000' "$token" &) >/dev/null 2>&1; echo hidden; nap ;;
esac
"""
"""
Run with a kind, the token that is in the command line of every process of every job, and a file for its id.

What is hiding keeps neither its mark, nor its session, nor its parent. What `count` prints at full speed, `lines`
slowly, `limit` up to its limit and `copy` from its stdin is known to the byte (expected_output).
"""

KINDS = [
    "short",
    "lines",
    "lines",
    "count",
    "count",
    "copy",
    "limit",
    "flood",
    "stubborn",
    "daemon",
    "leaver",
    "session",
    "bare",
    "errors",
    "hiding",
]


class Load:
    """
    Clients of one worker, from its start to its end.

    `running` are the ids of the jobs that run, as a watcher is told. Each job appends its id to a file named by its
    order, in the directory `runs` of the worker's place.
    """

    def __init__(self, daemon: Daemon, journal: Journal, token: str, seed: str) -> None:
        self._daemon = daemon
        self._journal = journal
        self._token = token
        self._script = daemon.place / "job.sh"
        self._script.write_text(JOB)
        self.running: set[str] = set()
        self._over = threading.Event()
        roles: list[Callable[[random.Random], None]] = [
            *[self._start_one] * 8,
            *[self._view_one] * 3,
            self._ask_one,
            self._list_some,
            self._stop_one,
            self._watch_all,
        ]
        self._threads = [
            threading.Thread(target=self._client, args=(role, random.Random(f"{seed}/{number}")), daemon=True)
            for number, role in enumerate(roles)
        ]
        for thread in self._threads:
            thread.start()

    def kill(self) -> None:
        """The worker, in the middle of it; returns when no client says anything any more."""
        self._over.set()
        self._daemon.process.kill()
        self._daemon.process.wait()
        self._daemon.channel.close()
        for thread in self._threads:
            thread.join(LIMIT)
            if thread.is_alive():
                self._journal.mistakes.append("a client still waits though its worker is dead")

    def _client(self, role: Callable[[random.Random], None], rng: random.Random) -> None:
        while not self._over.is_set():
            self._do(role, rng)

    def _do(self, role: Callable[[random.Random], None], rng: random.Random) -> None:
        try:
            role(rng)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
            if not self._over.is_set():
                self._journal.mistakes.append(f"{role.__name__}: {error}")
        except Exception as error:  # whatever it is, the test is to hear of it
            self._journal.mistakes.append(f"{role.__name__}: {error!r}")

    def _start_one(self, rng: random.Random) -> None:
        if len(self.running) >= RUNNING:
            self._over.wait(0.02)
            return
        request = self._order(rng)
        times = rng.choice((1, 1, 3)) if request.requestID else 1
        for call in [self._daemon.stub.StartJob.future(request, timeout=LIMIT) for _ in range(times)]:
            self._journal.started(request, call.result().jobID)

    def _order(self, rng: random.Random) -> pb.StartJobReq:
        """A new one without or with a requestID, or again one that was given before: perhaps to a worker now dead."""
        journal = self._journal
        old = rng.random()
        if old < 0.3 and (open_ones := list(journal.orders.keys() - journal.answers.keys())):
            return journal.orders[rng.choice(open_ones)]
        if old < 0.4 and (known := list(journal.orders)):
            return journal.orders[rng.choice(known)]
        kind, name = rng.choice(KINDS), str(uuid.UUID(int=rng.getrandbits(128)))
        request = pb.StartJobReq(
            command="bash",
            path=str(self._script),
            args=[kind, self._token, str(self._daemon.place / "runs" / name)],
            separateStderr=kind in ("errors", "copy"),
            stdin=STDIN if kind == "copy" else b"",
            limits=pb.Limits(
                maxOpenFiles=200 if rng.random() < 0.1 else 0, maxOutputBytes=LIMIT_BYTES if kind == "limit" else 0
            ),
            labels={"kind": kind},
        )
        if rng.random() < 0.6:
            request.requestID = name
            journal.orders[name] = request
        return request

    def _view_one(self, rng: random.Random) -> None:
        """To its end, or for some messages; and whose stream ended is done."""
        view = (self._some_id(rng), rng.random() < 0.1)
        most = rng.choice((1, 10, 1000))
        request = pb.StreamJobReq(jobID=view[0], stderr=view[1], raw=True)
        call = self._daemon.stub.StreamJob(request, timeout=LIMIT)
        output = b""
        try:
            for number, message in enumerate(call, 1):
                assert message.offset == len(output), f"offset {message.offset} after {len(output)} bytes"
                output += message.data
                if number == most:
                    break
            else:
                assert done(self._ask(view[0])), f"the stream of {view[0]} ended, but not the job"
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.INVALID_ARGUMENT or not view[1]:  # most have no separate stderr
                raise
        finally:
            call.cancel()
            self._saw(view, output)
        self._over.wait(rng.uniform(0, 0.05))

    def _saw(self, view: View, output: bytes) -> None:
        if output:
            self._journal.saw(view, output)

    def _ask_one(self, rng: random.Random) -> None:
        self._ask(self._some_id(rng))
        self._over.wait(0.01)

    def _ask(self, job_id: str) -> pb.Job:
        asked = time.monotonic()
        job = self._daemon.stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=LIMIT).job
        self._journal.told(job, asked)
        return job

    def _list_some(self, rng: random.Random) -> None:
        states = rng.choice(((), (pb.JOB_STATE_FAILED, pb.JOB_STATE_LOST)))
        labels = rng.choice(({}, {"kind": rng.choice(KINDS)}))
        request = pb.ListJobsReq(states=states, labels=labels, pageSize=20)
        asked = time.monotonic()
        for job in self._daemon.stub.ListJobs(request, timeout=LIMIT).jobs:
            self._journal.told(job, asked)
        self._over.wait(0.05)

    def _stop_one(self, rng: random.Random) -> None:
        with suppress(IndexError):
            job_id = rng.choice(sorted(self.running))
            self._daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
        self._over.wait(rng.uniform(0, 0.1))

    def _watch_all(self, rng: random.Random) -> None:
        for event in self._daemon.stub.WatchJobs(pb.WatchJobsReq(), timeout=4 * LIMIT):
            self._journal.told(event.job)
            if done(event.job):
                self.running.discard(event.job.jobID)
            else:
                self.running.add(event.job.jobID)

    def _some_id(self, rng: random.Random) -> str:
        """One of the newer ones; waits for the first."""
        while not self._over.is_set():
            with suppress(IndexError, RuntimeError):  # RuntimeError: another client changed it meanwhile
                return rng.choice(list(self._journal.recent))
            self._over.wait(0.01)
        raise ValueError("over before the first job")
