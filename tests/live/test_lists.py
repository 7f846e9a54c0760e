"""Lists and watchers of a real worker, while jobs come and go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb


def pages(worker: Daemon, **request: object) -> Iterator[list[str]]:
    """The ids of each page, one after another."""
    token = ""
    while True:
        page = worker.stub.ListJobs(pb.ListJobsReq(pageToken=token, **request), timeout=LIMIT)  # type: ignore[arg-type]
        yield [job.jobID for job in page.jobs]
        token = page.nextPageToken
        if not token:
            return


def listed(worker: Daemon, **request: object) -> list[str]:
    return [job_id for page in pages(worker, **request) for job_id in page]


Folded = tuple[dict[str, pb.Job], list[tuple[str, str]]]


def folded(events: Iterator[pb.JobEvent], until: str) -> Folded:
    """The newest record of each job, up to the end of that one, and which states of which jobs were told."""
    jobs: dict[str, pb.Job] = {}
    told = []
    for event in events:
        jobs[event.job.jobID] = event.job
        told.append((event.job.jobID, pb.JobState.Name(event.job.state)))
        if event.job.jobID == until and event.job.state >= pb.JOB_STATE_SUCCEEDED:
            break
    return jobs, told


def test_states_and_labels(daemon: Daemon) -> None:
    """Jobs are found by any of several states and by all of several labels, newest first."""
    labels = [{"test": "lists"}, {"test": "lists", "team": "a"}, {"test": "other", "team": "a"}]
    ids = [daemon.bash(script, labels=one) for one in labels for script in ("true", "false", "sleep 300")]
    for job_id in ids:
        if job_id not in ids[2::3]:
            daemon.end(job_id)
    assert listed(daemon, labels={"test": "lists"}) == ids[5::-1]
    assert listed(daemon, labels={"team": "a", "test": "lists"}) == ids[5:2:-1]
    assert listed(daemon, labels={"test": "lists"}, states=[pb.JOB_STATE_RUNNING]) == [ids[5], ids[2]]
    both = [pb.JOB_STATE_RUNNING, pb.JOB_STATE_FAILED]
    assert listed(daemon, labels={"test": "lists"}, states=both) == [ids[5], ids[4], ids[2], ids[1]]
    assert listed(daemon, labels={"test": "nobody's"}) == []
    assert listed(daemon)[:9] == ids[::-1]


def test_pages_are_stable(daemon: Daemon) -> None:
    """Whoever turns the pages while jobs come and go sees every job that was there once, and none twice."""
    there = [daemon.bash("true", labels={"test": "pages"}) for _ in range(20)]
    there.append(daemon.bash("sleep 300", labels={"test": "pages"}))
    seen: list[str] = []
    for page in pages(daemon, labels={"test": "pages"}, pageSize=3):
        assert len(page) <= 3
        seen += page
        daemon.end(daemon.bash("true", labels={"test": "pages"}))
        daemon.stub.StopJob(pb.StopJobReq(jobID=there[-1]), timeout=LIMIT)
    assert seen == there[::-1]


def test_refusals(daemon: Daemon) -> None:
    """A token of another list, or of nobody's, is refused; so are a state and a size that are none."""
    for _ in range(2):
        daemon.bash("true", labels={"test": "refusals"})
    page = daemon.stub.ListJobs(pb.ListJobsReq(pageSize=1, labels={"test": "refusals"}), timeout=LIMIT)
    requests = [
        pb.ListJobsReq(pageToken=page.nextPageToken),
        pb.ListJobsReq(pageToken="garbage"),
        pb.ListJobsReq(states=[pb.JOB_STATE_UNSPECIFIED]),
        pb.ListJobsReq(states=[99]),  # type: ignore[list-item]
        pb.ListJobsReq(pageSize=-1),
    ]
    for request in requests:
        with pytest.raises(grpc.RpcError) as refused:
            daemon.stub.ListJobs(request, timeout=LIMIT)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT, request


class Last:
    """The job that ends last; known once it is started."""

    def __init__(self) -> None:
        self._known = threading.Event()
        self._job_id = ""

    def set(self, job_id: str) -> None:
        self._job_id = job_id
        self._known.set()

    def get(self) -> str:
        self._known.wait(4 * LIMIT)
        return self._job_id


@pytest.mark.parametrize(("watchers", "jobs"), [(10, 30), pytest.param(50, 100, marks=pytest.mark.slow)])
def test_watchers(daemon: Daemon, watchers: int, jobs: int) -> None:
    """
    Many watchers while many jobs run: each one's folded view is what a list says at the end, no state of a job
    was told twice, and each end was told; one who did not read until then catches up.
    """
    label = {"test": f"{watchers} watchers"}
    request = pb.WatchJobsReq(labels=label)
    before = daemon.bash("true", labels=label)
    idle = daemon.stub.WatchJobs(request, timeout=4 * LIMIT)
    next(idle)
    begun = threading.Barrier(watchers + 1)

    def watch(_: int) -> Folded:
        events = daemon.stub.WatchJobs(request, timeout=4 * LIMIT)
        assert next(events).job.jobID == before
        begun.wait(LIMIT)
        return folded(events, last.get())

    last = Last()
    daemon.end(before)
    with ThreadPoolExecutor(watchers) as pool:
        watching = [pool.submit(watch, number) for number in range(watchers)]
        begun.wait(LIMIT)
        ids = [daemon.bash(f"exit {number % 3}", labels=label) for number in range(jobs)]
        for job_id in ids:
            daemon.end(job_id)
        ids.append(daemon.bash("true", labels=label))
        last.set(ids[-1])
        views = [future.result() for future in watching]
    expected = {job_id: daemon.query(job_id).job for job_id in ids}
    views.append(folded(idle, ids[-1]))
    for view, told in views:
        view.pop(before, None)
        assert view == expected
        assert len(told) == len(set(told))


def test_watch_by_name(daemon: Daemon) -> None:
    """Who names jobs is told of those alone, and the stream ends when all of them are done."""
    first, second, other = daemon.bash("exit 1"), daemon.bash("sleep 300"), daemon.bash("true")
    events = daemon.stub.WatchJobs(pb.WatchJobsReq(jobIDs=[first, second]), timeout=LIMIT)
    assert [next(events).job.jobID, next(events).job.jobID] == [first, second]
    daemon.stub.StopJob(pb.StopJobReq(jobID=second), timeout=LIMIT)
    jobs = {event.job.jobID: event.job.state for event in events}
    assert jobs[second] == pb.JOB_STATE_STOPPED
    assert other not in jobs
    with pytest.raises(grpc.RpcError) as refused:
        next(daemon.stub.WatchJobs(pb.WatchJobsReq(jobIDs=[first, "nobody"]), timeout=LIMIT))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_watcher_leaves(daemon: Daemon) -> None:
    """A watcher that leaves gives its thread back, though nothing changes any more."""
    before = daemon.threads()
    for _ in range(20):
        events = daemon.stub.WatchJobs(pb.WatchJobsReq(), timeout=LIMIT)
        next(events)
        events.cancel()
    wait_until(lambda: daemon.threads() <= before + 3)  # each is idle for seconds before it ends
