"""A quarter of a GiB of noise, to the last byte."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.daemon import Daemon
from txworker.pb import worker_pb2 as pb

SIZE = 256 * 1024 * 1024

pytestmark = pytest.mark.slow


def test_raw_and_text(daemon: Daemon) -> None:
    """Sixteen raw viewers get the file's bytes; the text is what decoding the whole would give."""
    job_id = daemon.start(f"head -c {SIZE} /dev/urandom")

    def digest(_: int) -> str:
        sha256 = hashlib.sha256()
        for message in daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True)):
            sha256.update(message.data)
        return sha256.hexdigest()

    with ThreadPoolExecutor(16) as pool:
        digests = set(pool.map(digest, range(16)))
    data = (daemon.output / f"{job_id}.out").read_bytes()
    assert len(data) == SIZE
    assert digests == {hashlib.sha256(data).hexdigest()}

    told = hashlib.sha256()
    for message in daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id)):
        told.update(message.output.encode())
    assert told.hexdigest() == hashlib.sha256(data.decode("utf-8", "replace").encode()).hexdigest()
