"""The committed code is what proto/ generates, and the wire is what existing programs speak."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.pb import scheduler_pb2, worker_bare_pb2, worker_pb2

TOP = Path(__file__).resolve().parent.parent


def generate(program: str, out: Path) -> None:
    """Run one of the programs in proto/, which writes there."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = [sys.executable, str(TOP / "proto" / program), str(out)]
    subprocess.run(words, check=True, env={**os.environ, "PATH": path}, capture_output=True)


class GeneratedTests(SynchronousTestCase):
    def test_fresh(self) -> None:
        """Generating anew changes nothing (`tox -e protos` makes it so)."""
        out = Path(self.mktemp())
        out.mkdir()
        generate("generate.py", out)
        generated = {path.name: path.read_text() for path in (out / "txworker" / "pb").iterdir()}
        committed = {path.name: path.read_text() for path in (TOP / "txworker" / "pb").glob("*_pb2*.py*")}
        self.assertEqual(sorted(generated), sorted(committed))
        self.assertEqual([], [name for name in generated if generated[name] != committed[name]])

    def test_reference(self) -> None:
        """docs/wire.md is what proto/ says now (`tox -e protos` makes it so)."""
        out = Path(self.mktemp())
        generate("wire_page.py", out)
        self.assertEqual(out.read_text(), (TOP / "docs" / "wire.md").read_text())


class WireTests(SynchronousTestCase):
    def test_two_names_one_service(self) -> None:
        """The service has the same methods under both names, with the same messages."""
        services = [module.DESCRIPTOR.services_by_name["Worker"] for module in (worker_pb2, worker_bare_pb2)]
        self.assertEqual(["jobscheduler.Worker", "Worker"], [service.full_name for service in services])
        first, second = (
            [(one.name, one.input_type.full_name, one.output_type.full_name) for one in service.methods]
            for service in services
        )
        self.assertEqual(first, second)

    def test_numbers(self) -> None:
        """Field names and numbers are the interface; not one may move."""
        table = {
            "StartJobReq": "command=1 path=2 args=10 env=11 directory=12 requestID=13 timeout=14 stdin=15 limits=16 "
            "labels=17 quietTimeout=18 separateStderr=19 leftovers=20 tty=21 ttyRows=22 ttyColumns=23 "
            "envFiles=24 user=25 lease=26 feed=27",
            "StartJobRes": "jobID=1",
            "StopJobReq": "jobID=1 grace=10",
            "StopJobRes": "",
            "QueryJobReq": "jobID=1",
            "QueryJobRes": "done=1 error=2 errorText=3 job=10",
            "StreamJobReq": "path=1 jobID=10 offset=11 noFollow=12 raw=13 tailLines=14 stderr=15 fromEnd=16",
            "StreamJobRes": "output=1 data=10 offset=11",
            "Limits": "maxOutputBytes=1 maxMemoryBytes=2 maxCPU=3 maxOpenFiles=4 maxProcesses=5 "
            "maxTotalMemoryBytes=6 maxTotalCPUs=7 maxTotalProcesses=8",
            "Job": "jobID=1 command=2 path=3 args=4 state=5 exitCode=6 signal=7 errorText=8 createdAt=9 startedAt=10 "
            "finishedAt=11 outputBytes=12 labels=13 requestID=14 userCPU=15 systemCPU=16 maxRSSBytes=17 "
            "outputTruncated=18 pid=19 leftoversEnded=20 owner=21 directory=22 timeout=23 quietTimeout=24 limits=25 "
            "envNames=26 separateStderr=27 user=28 takeovers=29 coreDumped=30 memoryPeakBytes=31 shortened=32",
            "ListJobsReq": "states=1 labels=2 pageSize=3 pageToken=4 idPrefix=5 since=6 until=7 owner=8",
            "ListJobsRes": "jobs=1 nextPageToken=2",
            "WatchJobsReq": "jobIDs=1 labels=2",
            "JobEvent": "job=1",
            "SignalJobReq": "jobID=1 signal=2",
            "SignalJobRes": "",
            "JobUsageReq": "jobIDs=1",
            "JobUsageRes": "usages=1",
            "Usage": "jobID=1 processes=2 rssBytes=3 userCPU=4 systemCPU=5",
            "RenewLeasesReq": "jobIDs=1",
            "RenewLeasesRes": "gone=1",
            "FeedJobReq": "jobID=1 data=2 end=3",
            "FeedJobRes": "taken=1 total=10",
            "ResizeJobReq": "jobID=1 rows=2 columns=3",
            "ResizeJobRes": "",
            "RegisterReq": "address=1",
            "RegisterRes": "success=1 workerID=2",
            "DeregisterReq": "workerID=1",
            "DeregisterRes": "success=1",
        }
        messages = {**worker_pb2.DESCRIPTOR.message_types_by_name, **scheduler_pb2.DESCRIPTOR.message_types_by_name}
        found = {
            name: " ".join(f"{field.name}={field.number}" for field in message.fields)
            for name, message in messages.items()
        }
        self.assertEqual(table, found)
