"""All that a worker has told its clients, whichever worker of that place it was: what must be so for ever after."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections import deque
from contextlib import closing
from pathlib import Path

from tests.support.daemon import LIMIT, Daemon
from tests.support.output import expected_output
from txworker.pb import worker_pb2 as pb

View = tuple[str, bool]
"""A job's id, and whether the view is of its separate stderr."""


class Journal:
    """
    Filled by many threads at once. What contradicts something that was told earlier is kept in `mistakes`.

    orders are the requests with a requestID, answers the ids that came back for them. seen is the longest beginning
    of an output that any viewer was sent.
    """

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.recent: deque[str] = deque(maxlen=150)
        self.ends: dict[str, pb.Job] = {}
        self._ended_at: dict[str, float] = {}
        self.orders: dict[str, pb.StartJobReq] = {}
        self.answers: dict[str, str] = {}
        self.seen: dict[View, bytes] = {}
        self.mistakes: list[str] = []
        self.may_lose = False
        self._checked: set[str] = set()
        self._expected: dict[tuple[str, str], bytes | None] = {}

    def started(self, request: pb.StartJobReq, job_id: str) -> None:
        """StartJob answered."""
        if request.requestID and self.answers.setdefault(request.requestID, job_id) != job_id:
            self.mistakes.append(f"request {request.requestID}: {self.answers[request.requestID]}, then {job_id}")
        self._know(job_id)

    def told(self, job: pb.Job, asked: float = 0.0) -> None:
        """A job was shown, by whatever call; one that was made when time.monotonic() was `asked`."""
        self._know(job.jobID)
        if done(job):
            self._ended_at.setdefault(job.jobID, time.monotonic())
            before = self.ends.setdefault(job.jobID, job)
            if before != job:
                self._contradicted(before, job)
        elif self._ended_at.get(job.jobID, asked) < asked:
            self._contradicted(self.ends[job.jobID], job)

    def saw(self, view: View, output: bytes) -> None:
        """A viewer was sent this, from the beginning on."""
        before = self.seen.get(view, b"")
        shorter, longer = sorted((before, output), key=len)
        if not longer.startswith(shorter):
            self.mistakes.append(f"two viewers of {view} were sent different bytes")
        self.seen[view] = longer

    def _contradicted(self, before: pb.Job, job: pb.Job) -> None:
        """Only the fields that differ: a whole job is long."""
        fields = [one.name for one in job.DESCRIPTOR.fields if getattr(before, one.name) != getattr(job, one.name)]
        told = [", ".join(f"{name}={getattr(one, name)!s}" for name in fields) for one in (before, job)]
        self.mistakes.append(f"{job.jobID}: told first {told[0]}; then {told[1]}")

    def _know(self, job_id: str) -> None:
        if job_id not in self.ids:
            self.ids.add(job_id)
            self.recent.append(job_id)

    def check_files(self, output: Path, views: list[View]) -> None:
        """What these viewers were sent is in the files."""
        for job_id, stderr in views:
            sent = self.seen[job_id, stderr]
            with (output / f"{job_id}.{'err' if stderr else 'out'}").open("rb") as file:
                if file.read(len(sent)) != sent:
                    self.mistakes.append(f"the output of {job_id} does not begin with what a viewer was sent")

    def check_streams(self, daemon: Daemon, views: list[View]) -> None:
        """What these viewers were sent is sent again."""
        for job_id, stderr in views:
            if not daemon.raw(job_id, stderr=stderr, noFollow=True).startswith(self.seen[job_id, stderr]):
                self.mistakes.append(f"the stream of {job_id} does not begin with what an earlier viewer was sent")

    def check_jobs(self, daemon: Daemon) -> None:
        """Before anything new is started: every job is known, none is lost, and each end is what it was."""
        asked = time.monotonic()
        listed = {job.jobID: job for job in list_all(daemon)}
        self.mistakes += [f"{job_id} is not known any more" for job_id in self.ids - listed.keys()]
        for job in listed.values():
            if job.state == pb.JOB_STATE_LOST and not self.may_lose:
                self.mistakes.append(f"{job.jobID} is lost: {job.errorText}")
            self.told(job, asked)

    def check_asked(self, daemon: Daemon, job_ids: list[str]) -> None:
        """The same of a few by QueryJob; and an output is as long as its job says."""
        for job_id in job_ids:
            asked = time.monotonic()
            job = daemon.query(job_id).job
            self.told(job, asked)
            if not done(job):
                continue
            sizes = sum(file.stat().st_size for file in daemon.output.glob(f"{job_id}.*"))
            if sizes != job.outputBytes:
                self.mistakes.append(f"{job_id} has {sizes} bytes of output, and says {job.outputBytes}")

    def check_outputs(self, daemon: Daemon, token: str) -> None:
        """What jobs that print what is known have printed so far, or in all: every byte, once, in order."""
        for job in list_all(daemon):
            kind = job.labels.get("kind", "")
            if (kind, token) not in self._expected:
                self._expected[kind, token] = expected_output(kind, token)
            expected = self._expected[kind, token]
            if expected is None or job.jobID in self._checked:
                continue
            printed = (daemon.output / f"{job.jobID}.out").read_bytes()
            ended_by_itself = job.state in (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED) and not job.signal
            if not expected.startswith(printed) or (ended_by_itself and len(printed) < len(expected)):
                self.mistakes.append(_difference(job, expected, printed))
            if done(job):
                self._checked.add(job.jobID)

    def check_runs(self, runs: Path) -> None:
        """No order was carried out twice. Each job appends its id to a file named by its order."""
        for file in runs.iterdir():
            ran = file.read_text().split()
            if len(ran) > 1 or ran[:1] not in ([], [self.answers.get(file.name, *ran)]):
                self.mistakes.append(f"{file.name} was answered {self.answers.get(file.name)} and ran as {ran}")


def _difference(job: pb.Job, expected: bytes, printed: bytes) -> str:
    same = next(
        (i for i, (a, b) in enumerate(zip(expected, printed, strict=False)) if a != b), min(len(expected), len(printed))
    )
    return (
        f"{job.jobID} ({job.labels['kind']}, state {job.state}, {job.errorText!r}) printed "
        f"{len(printed)} of {len(expected)} bytes, "
        f"different from byte {same} on: {printed[same - 20 : same + 40]!r} "
        f"instead of {expected[same - 20 : same + 40]!r}"
    )


def done(job: pb.Job) -> bool:
    """Nothing more will happen to it."""
    return job.state >= pb.JOB_STATE_SUCCEEDED


def list_all(daemon: Daemon) -> list[pb.Job]:
    """Every job there is, page by page."""
    found: list[pb.Job] = []
    token = ""
    while True:
        page = daemon.stub.ListJobs(pb.ListJobsReq(pageSize=1000, pageToken=token), timeout=LIMIT)
        found += page.jobs
        token = page.nextPageToken
        if not token:
            return found


def integrity(state: Path) -> str:
    """What SQLite says about the store of a dead worker: a copy is looked at, for a look repairs."""
    with tempfile.TemporaryDirectory() as place:
        for file in state.glob("jobs.sqlite3*"):
            if not file.name.endswith("-shm"):
                (Path(place) / file.name).write_bytes(file.read_bytes())
        with closing(sqlite3.connect(Path(place) / "jobs.sqlite3")) as connection:
            found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
            return found
