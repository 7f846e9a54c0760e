"""Nothing of a job survives it, whatever it tries; and nothing that is not of it is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.adversary import (
    CONFIG,
    ENDINGS,
    WITHOUT_CGROUPS,
    WITHOUT_SHIM,
    Adversary,
    Witnesses,
    cgroup_root,
    described,
    job_of_witnesses,
    outsiders,
)
from tests.support.daemon import LIMIT, TWISTD, Daemon, wait_until
from txworker.pb import worker_pb2 as pb

OFTEN = 34  # times three endings


@pytest.fixture
def witnesses(tmp_path: Path) -> Iterator[Witnesses]:
    """Whoever is made of these lives to the end of the test without a signal."""
    witnesses = Witnesses(tmp_path / "witnesses")
    yield witnesses
    witnesses.kill()


@pytest.fixture
def attack(tmp_path: Path, witnesses: Witnesses) -> Iterator[Callable[..., list[Adversary]]]:
    """Rounds of one adversary for each ending, all at once; witnesses beside the worker carry marks of its jobs."""
    done: list[Adversary] = []

    def attack_in_rounds(
        daemon: Daemon, count: int, cgroup: str = "", tagged_outsiders: bool = True
    ) -> list[Adversary]:
        for number in range(count):
            adversaries = [Adversary(daemon, tmp_path, ending, cgroup) for ending in ENDINGS]
            done.extend(adversaries)
            if number == 0:
                tags = [adversary.job_id for adversary in adversaries if tagged_outsiders]
                outsiders(witnesses, "no job's", *tags)
            for adversary in adversaries:
                check(adversary)
        return done

    yield attack_in_rounds
    for adversary in done:
        adversary.kill()


def check(adversary: Adversary) -> None:
    """It ends as it should, nobody survives it, and how many were ended is in the job and in the log."""
    state = {"end": pb.JOB_STATE_SUCCEEDED, "stop": pb.JOB_STATE_STOPPED, "timeout": pb.JOB_STATE_TIMED_OUT}
    job = adversary.end()
    survivors = adversary.survivors()
    assert survivors == [], f"{adversary.ending}: {[described(pid) for pid in survivors]}"
    assert job.state == state[adversary.ending]
    if job.outputBytes:  # else its time was over before all of them were there
        assert job.leftoversEnded >= 10
    line = f"leftovers ended: {job.leftoversEnded}"
    wait_until(lambda: line in adversary.daemon.log())  # an end may be seen a moment before it is logged


def attack_with_cgroups(
    daemon: Daemon, attack: Callable[..., list[Adversary]], witnesses: Witnesses, count: int
) -> None:
    job_of_witnesses(daemon, witnesses)
    for adversary in attack(daemon, count, cgroup_root()):
        assert adversary.lost_ones() == []
    assert witnesses.signalled() == []


def attack_without_cgroups(
    daemon: Daemon, attack: Callable[..., list[Adversary]], witnesses: Witnesses, count: int
) -> None:
    bystander = job_of_witnesses(daemon, witnesses)
    adversaries = attack(daemon, count)
    assert witnesses.signalled() == []
    daemon.stub.StopJob(pb.StopJobReq(jobID=bystander), timeout=LIMIT)
    daemon.end(bystander)
    for adversary in adversaries:
        assert adversary.lost_ones() == []


@pytest.fixture
def with_cgroups(a_daemon: Callable[..., Daemon]) -> Daemon:
    if not cgroup_root():
        pytest.skip("needs root and a cgroup v2 hierarchy that can be written")
    return a_daemon(CONFIG)


@pytest.mark.slow
def test_with_cgroups(with_cgroups: Daemon, attack: Callable[..., list[Adversary]], witnesses: Witnesses) -> None:
    """With a cgroup nobody survives, however the job ends."""
    attack_with_cgroups(with_cgroups, attack, witnesses, 1)


def test_without_cgroups(
    a_daemon: Callable[..., Daemon], attack: Callable[..., list[Adversary]], witnesses: Witnesses
) -> None:
    """
    Without cgroups nobody survives who keeps session, ancestry, mark or brand. Who gets rid of all lives until no
    other job runs that it may belong to.
    """
    attack_without_cgroups(a_daemon(WITHOUT_CGROUPS), attack, witnesses, 1)


@pytest.mark.slow
def test_often_with_cgroups(with_cgroups: Daemon, attack: Callable[..., list[Adversary]], witnesses: Witnesses) -> None:
    """No survivor in 100 of 100 runs."""
    attack_with_cgroups(with_cgroups, attack, witnesses, OFTEN)


@pytest.mark.slow
def test_often_without_cgroups(
    a_daemon: Callable[..., Daemon], attack: Callable[..., list[Adversary]], witnesses: Witnesses
) -> None:
    """The same without cgroups."""
    attack_without_cgroups(a_daemon(WITHOUT_CGROUPS), attack, witnesses, OFTEN)


@pytest.mark.slow
def test_without_shim(
    a_daemon: Callable[..., Daemon], attack: Callable[..., list[Adversary]], witnesses: Witnesses
) -> None:
    """
    Without the shim nothing survives that keeps session or tags, and what keeps nothing does. There is no descent to go
    by, so the environment tag of a job makes any process the job's; others are not touched.
    """
    daemon = a_daemon(WITHOUT_SHIM)
    job_of_witnesses(daemon, witnesses)
    for adversary in attack(daemon, 2, tagged_outsiders=False):
        assert len(adversary.lost_ones()) == 1
    assert witnesses.signalled() == []


@pytest.mark.parametrize("text", [CONFIG, WITHOUT_CGROUPS, WITHOUT_SHIM])
def test_children_from_before(tmp_path: Path, witnesses: Witnesses, text: str) -> None:
    """A worker that a script became (exec) has children that are no job's: they outlive every job, and the worker."""
    script = tmp_path / "twistd"
    script.write_text(f'#!/bin/bash\n{witnesses.command()} &\n(setsid {witnesses.command()} &)\nexec {TWISTD} "$@"\n')
    script.chmod(0o755)
    with closing(Daemon(tmp_path, text, twistd=[str(script)])) as daemon:
        witnesses.pids()
        job_id = daemon.bash("setsid sleep 300 & (env -i setsid sleep 300 &); sleep 0.1")
        assert daemon.end(job_id).job.leftoversEnded == 2
        assert daemon.stop() == 0
    assert witnesses.signalled() == []


@pytest.mark.parametrize("text", [CONFIG, WITHOUT_CGROUPS])
def test_keep(a_daemon: Callable[..., Daemon], witnesses: Witnesses, text: str) -> None:
    """With jobs.leftovers = "keep" what a job that is done left lives on untouched; a stop still ends the group."""
    daemon = a_daemon(text + 'leftovers = "keep"\n')
    done = daemon.end(daemon.bash(f"{witnesses.command()} >&- 2>&- & (setsid {witnesses.command()} >&- 2>&- &)")).job
    assert (done.state, done.leftoversEnded) == (pb.JOB_STATE_SUCCEEDED, 0)
    witnesses.pids()
    stopped = daemon.bash("sleep 300 & echo $!; wait")
    wait_until(lambda: daemon.query(stopped).job.outputBytes)
    daemon.stub.StopJob(pb.StopJobReq(jobID=stopped), timeout=LIMIT)
    pid = int(daemon.raw(stopped))
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert daemon.stop() == 0
    assert witnesses.signalled() == []
