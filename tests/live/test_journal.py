"""The log in a real journal: with fields and priorities, by its own protocol and by standard output."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.daemon import LIMIT, end_shim, wait_until
from tests.support.systemd import Systemd, why_not
from tests.support.unit import unit_for
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

pytestmark = pytest.mark.slow

JOURNALD = "/lib/systemd/systemd-journald"
UNIT = f"""
[Unit]
DefaultDependencies=no

[Service]
Type=notify
ExecStart={JOURNALD}
StandardOutput=null
"""


class Journal:
    """A systemd with a journal, and txworker.service, which logs to it."""

    def __init__(self, systemd: Systemd, place: Path) -> None:
        self.systemd = systemd
        self.place = place

    def start(self, text: str) -> WorkerStub:
        """Start the worker; its stub."""
        (self.place / "worker.toml").write_text(f'[grpc_server]\naddr = "127.0.0.1:0"\n{text}')
        assert self.systemd.systemctl("start", "txworker").returncode == 0
        status = wait_until(lambda: self.systemd.systemctl("show", "txworker", "-p", "StatusText", "--value").stdout)
        return WorkerStub(grpc.insecure_channel(status.split()[2].removesuffix(";")))

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """The journal's entries."""
        done = self.systemd.run("journalctl", "--output=json", "--no-pager", *matches)
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Both units; only the journal is started."""
    if reason := why_not():
        pytest.skip(reason)
    if not os.access(JOURNALD, os.X_OK):
        pytest.skip("there is no journal here")
    place = tmp_path / "worker"
    place.mkdir()
    worker = unit_for(place).replace(f"StandardOutput=append:{place}/log", "StandardOutput=journal")
    try:
        systemd = Systemd(tmp_path, {"journal.service": UNIT, "txworker.service": worker})
    except AssertionError as error:
        pytest.skip(f"systemd does not boot here: {error}")
    if systemd.systemctl("start", "journal").returncode:
        systemd.close()
        pytest.skip("the journal does not start here")
    yield Journal(systemd, place)
    systemd.close()
    end_shim(place / "state")


def test_fields(journal: Journal) -> None:
    """With format = "journald" an operator finds a job's entries by its id, and errors by their priority."""
    stub = journal.start('[log]\nformat = "journald"\n')
    job_id = stub.StartJob(pb.StartJobReq(command="bash", args=["-c", "exit 3"]), timeout=LIMIT).jobID
    entries = wait_until(lambda: len(found := journal.entries(f"JOB_ID={job_id}")) == 2 and found)
    assert entries[0]["MESSAGE"].startswith(f"Job {job_id} started as pid ")
    assert entries[1]["MESSAGE"].startswith(f"Job {job_id} is done: FAILED (exit status 3), 0 bytes of output in ")
    assert {entry["SYSLOG_IDENTIFIER"] for entry in entries} == {"txworker"}
    assert {entry["_SYSTEMD_UNIT"] for entry in entries} == {"txworker.service"}
    assert {(entry["PRIORITY"], entry["LOGGER"]) for entry in entries} == {("6", "txworker.worker.worker.Worker")}
    assert (entries[1]["STATE"], entries[1]["EXIT_CODE"]) == ("FAILED", "3")
    assert float(entries[1]["SECONDS"]) >= 0

    (journal.place / "worker.toml").write_text("no toml")
    assert journal.systemd.systemctl("reload", "txworker").returncode != 0
    errors = wait_until(lambda: journal.entries("-p", "err", "SYSLOG_IDENTIFIER=txworker"))
    assert [entry["PRIORITY"] for entry in errors] == ["3"]


def test_priorities(journal: Journal) -> None:
    """A worker that logs lines of text to the journal gives each its priority."""
    journal.start("")
    (journal.place / "worker.toml").write_text("no toml")
    journal.systemd.systemctl("reload", "txworker")

    def with_text(text: str, *matches: str) -> list[dict[str, Any]]:
        """Those entries, once that text is in one of them: the journal writes what it is sent a little later."""
        found = journal.entries("-u", "txworker.service", "_TRANSPORT=stdout", *matches)
        return found if any(text in entry["MESSAGE"] for entry in found) else []

    errors = wait_until(lambda: with_text("The configuration stays as it is", "-p", "err"))
    infos = wait_until(lambda: with_text("Serving on", "PRIORITY=6"))
    assert not any(entry["MESSAGE"].startswith("<") for entry in infos + errors)
