"""Spans of a real worker, sent to a collector of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.daemon import LIMIT, TWISTD_COMMAND, Daemon, cannot_start
from txworker.pb import worker_pb2 as pb

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)


class Collector:
    """Receives spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.resource: dict[str, str] = {}
        self._came: SimpleQueue[bytes] = SimpleQueue()
        came = self._came

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    came.put(body if self.headers.get("Content-Encoding") is None else b"")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def read(self) -> None:
        """Take in all that has come: a worker that has ended has waited for an answer to each."""
        try:
            while True:
                request = ExportTraceServiceRequest.FromString(self._came.get_nowait())
                for of_resource in request.resource_spans:
                    self.resource = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                    for scope in of_resource.scope_spans:
                        self.spans.update({span.name: span for span in scope.spans})
        except Empty:
            return

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@pytest.mark.slow
def test_a_job(a_daemon: Callable[..., Daemon], collector: Collector) -> None:
    """The client's trace goes through the call and the job's life into the job; a refusal is an error of its call."""
    worker = a_daemon(f'[tracing]\nendpoint = "{collector.url}"')
    request = pb.StartJobReq(command="bash", path="-c", args=["echo $TRACEPARENT; exit 3"], requestID="r")
    job_id = worker.stub.StartJob(request, timeout=LIMIT, metadata=CONTEXT).jobID
    assert worker.stub.StartJob(request, timeout=LIMIT).jobID == job_id  # the same request, from another trace
    known = worker.text(job_id).strip()
    with pytest.raises(grpc.RpcError):
        worker.stub.StopJob(pb.StopJobReq(jobID="none"), timeout=LIMIT)
    assert worker.stop() == 0  # sends what has gathered
    collector.read()
    job, refused = collector.spans["job"], collector.spans["jobscheduler.Worker/StopJob"]
    assert known == f"00-{TRACE}-{job.span_id.hex()}-01"
    assert job.trace_id.hex() == TRACE
    assert attributes(job)["txworker.job.id"] == job_id
    assert attributes(job)["process.exit.code"] == 3
    assert job.status.code == Status.STATUS_CODE_ERROR
    assert refused.status.code == Status.STATUS_CODE_ERROR
    assert "there is no job 'none'" in refused.status.message
    assert attributes(refused)["error.type"] == "JOB_NOT_FOUND"
    assert collector.resource["service.name"] == "txworker"
    assert collector.resource["service.instance.id"].endswith("/1")


@pytest.mark.slow
def test_environment(a_daemon: Callable[..., Daemon], collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own variables turn it on as well; a job that sets TRACEPARENT itself keeps it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    worker = a_daemon()
    assert worker.text(worker.bash("echo $TRACEPARENT", env={"TRACEPARENT": "own"})) == "own\n"
    assert worker.stop() == 0
    collector.read()
    assert {"job", "jobscheduler.Worker/StartJob", "jobscheduler.Worker/StreamJob"} <= set(collector.spans)
    assert collector.resource["service.name"] == "mine"


@pytest.mark.slow
def test_no_collector(a_daemon: Callable[..., Daemon]) -> None:
    """A collector that is not there costs a line in the log, and a few seconds at the end at most."""
    worker = a_daemon('[tracing]\nendpoint = "http://127.0.0.1:1"')
    assert worker.end(worker.start("true")).job.exitCode == 0
    assert worker.stop() == 0
    assert worker.log().count("Tracing: ") <= 1
    assert "Traceback" not in worker.log()


@pytest.mark.slow
def test_not_installed(tmp_path: Path) -> None:
    """Where it is configured and OpenTelemetry is missing, the worker says what to install."""
    (tmp_path / "opentelemetry.py").write_text("raise ImportError('not here')")
    config = tmp_path / "worker.toml"
    config.write_text('grpc_server.addr = "127.0.0.1:0"\ntracing.endpoint = "http://127.0.0.1:1"\n')
    command = ["env", f"PYTHONPATH={tmp_path}", *TWISTD_COMMAND]
    assert cannot_start(config, command) == (
        f"txworker: {config}: tracing.endpoint: needs OpenTelemetry, which is not installed: "
        "pip install 'txworker[otel]'"
    )


def test_off(daemon: Daemon) -> None:
    """Without configuration a job gets no trace, whatever the client sends."""
    request = pb.StartJobReq(command="env")
    job_id = daemon.stub.StartJob(request, timeout=LIMIT, metadata=CONTEXT).jobID
    assert "TRACEPARENT" not in daemon.text(job_id)
