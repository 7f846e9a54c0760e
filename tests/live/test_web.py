"""Metrics and health by HTTP, of real workers; and a real Prometheus that scrapes one."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.daemon import LIMIT, Daemon, cannot_start, wait_until
from tests.support.pems import Authority
from tests.support.scheduler import SchedulerStandIn
from tests.support.web import WEB, ask, metrics, web_addr
from txworker.pb import worker_pb2 as pb

PROMETHEUS = shutil.which("prometheus")
DOCS = Path(__file__).parents[2] / "docs"
RULES = DOCS / "prometheus" / "alerts.yml"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """With a web server, shared by the tests of this file."""
    one = Daemon(tmp_path_factory.mktemp("worker"), WEB)
    yield one
    one.close()


def test_jobs_and_calls(worker: Daemon) -> None:
    """A scrape shows what happened: starts, ends, refusals, output, calls by code, and the shim's jobs."""
    before = metrics(worker)
    worker.end(worker.bash("echo hello; exit 3"))
    with pytest.raises(grpc.RpcError):
        worker.start("no-such-executable")
    with pytest.raises(grpc.RpcError):
        worker.query("nobody")
    with pytest.raises(grpc.RpcError):
        worker.query("x" * 2**21)
    calling: Any = worker.channel.stream_unary("/Worker/StopJob")
    with pytest.raises(grpc.RpcError):
        calling(iter(()), timeout=LIMIT)
    sleeping = worker.start("sleep", "1000")
    risen = {
        "txworker_jobs_started_total": 2,
        "txworker_job_launch_seconds_count": 2,
        'txworker_jobs_ended_total{state="FAILED"}': 1,
        'txworker_jobs_refused_total{reason="EXECUTABLE_NOT_FOUND"}': 1,
        "txworker_output_bytes_total": 6,
        'txworker_grpc_calls_total{code="OK",method="StartJob"}': 2,
        'txworker_grpc_calls_total{code="NOT_FOUND",method="QueryJob"}': 1,
        'txworker_grpc_calls_total{code="RESOURCE_EXHAUSTED",method="QueryJob"}': 1,
        'txworker_grpc_calls_total{code="UNIMPLEMENTED",method="StopJob"}': 1,
    }
    present = {'txworker_jobs{state="RUNNING"}': 1, "txworker_shim_alive": 1, "txworker_shim_jobs": 1}

    def missing_values() -> dict[str, float]:
        """What a scrape has otherwise; a call is counted after its answer was sent."""
        now = metrics(worker)
        values = {name: now.get(name, 0) - before.get(name, 0) for name in risen}
        values |= {name: now[name] for name in present}
        return {name: value for name, value in values.items() if value != {**risen, **present}[name]}

    with suppress(AssertionError):
        wait_until(lambda: not missing_values())
    assert missing_values() == {}
    now = metrics(worker)
    assert now["txworker_store_commit_seconds_count"] - before["txworker_store_commit_seconds_count"] >= 4
    assert now["txworker_ready"] == 1
    worker.stub.StopJob(pb.StopJobReq(jobID=sleeping), timeout=LIMIT)
    wait_until(lambda: metrics(worker)['txworker_jobs_ended_total{state="STOPPED"}'] == 1)


def test_methods(worker: Daemon) -> None:
    """HEAD is GET without the body, on every page; nothing else is known."""
    for path in ("/", "/metrics", "/livez", "/readyz"):
        for method, status in (("HEAD", 200), ("POST", 405)):
            connection = http.client.HTTPConnection(web_addr(worker), timeout=LIMIT)
            connection.request(method, path)
            with connection.getresponse() as answer:
                assert (answer.status, answer.read() == b"") == (status, method == "HEAD"), (method, path)
            connection.close()


def test_streams(worker: Daemon) -> None:
    """Open streams are counted by method while they are open, also those whose client leaves without a word."""
    job_id = worker.bash("echo begun; exec sleep 1000")
    call = worker.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
    next(call)
    assert metrics(worker)['txworker_grpc_streams_open{method="StreamJob"}'] == 1
    call.cancel()
    wait_until(lambda: metrics(worker)['txworker_grpc_streams_open{method="StreamJob"}'] == 0)
    wait_until(lambda: metrics(worker).get('txworker_grpc_calls_total{code="CANCELLED",method="StreamJob"}') == 1)
    worker.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)


def test_promtool(worker: Daemon) -> None:
    """promtool finds no fault with a real scrape."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    text = ask(worker, "/metrics").text.encode()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_half_sent_requests(worker: Daemon) -> None:
    """Connections that send half a request and wait take nothing from others: those beyond the limit are closed."""
    host, port = web_addr(worker).rsplit(":", 1)
    with ExitStack() as stack:
        for _ in range(16):
            half = stack.enter_context(socket.create_connection((host, int(port)), LIMIT))
            half.sendall(b"GET /livez HTT")
        assert ask(worker, "/livez") == (200, "ok\n")
        many = [stack.enter_context(socket.create_connection((host, int(port)), LIMIT)) for _ in range(32)]
        wait_until(lambda: len(select.select(many, [], [], 0)[0]) >= 16)  # readable: closed
        assert worker.end(worker.start("true")).done
    wait_until(lambda: _answers(worker))


def _answers(worker: Daemon) -> bool:
    try:
        return ask(worker, "/livez").status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_draining(a_daemon: Callable[..., Daemon]) -> None:
    """A worker that drains is alive and not ready, says why, and is scraped to its end."""
    draining = a_daemon(WEB)
    assert ask(draining, "/readyz") == (200, "ok\n")
    job_id = draining.start("sleep", "1000")
    draining.process.send_signal(signal.SIGQUIT)
    answer = wait_until(lambda: (found := ask(draining, "/readyz")).status == 503 and found)
    assert answer.text == "draining: the worker is being drained and takes no new jobs\n"
    assert ask(draining, "/livez") == (200, "ok\n")
    assert metrics(draining)['txworker_not_ready{cause="draining"}'] == 1
    draining.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
    assert draining.process.wait(LIMIT) == 0


@pytest.mark.slow
def test_lost_shim(a_daemon: Callable[..., Daemon]) -> None:
    """A shim that is killed is counted, and so are its jobs; the worker is ready again when the next one runs."""
    worker = a_daemon(WEB)
    worker.start("sleep", "1000")
    os.kill(worker.shim(), signal.SIGKILL)
    now = wait_until(lambda: (found := metrics(worker))['txworker_jobs_ended_total{state="LOST"}'] == 1 and found)
    assert (now["txworker_shim_ends_total"], now["txworker_shim_jobs"]) == (1, 0)
    wait_until(lambda: metrics(worker)["txworker_shim_alive"] == 1 and ask(worker, "/readyz").status == 200)


@pytest.mark.slow
def test_taken_over(a_daemon: Callable[..., Daemon]) -> None:
    """The next worker counts the jobs that it takes over, and of their output only what is written from then on."""
    first = a_daemon(WEB)
    job_id = first.bash("echo before")
    wait_until(lambda: metrics(first)["txworker_output_bytes_total"] == 7)
    sleeping = first.bash("echo begun; exec sleep 1000")
    wait_until(lambda: metrics(first)["txworker_output_bytes_total"] >= 13)
    first.stop(signal.SIGUSR2)
    second = Daemon(first.place, WEB)
    try:
        now = metrics(second)
        assert (now["txworker_jobs_taken_over_total"], now["txworker_shim_takeovers_total"]) == (1, 1)
        assert (now['txworker_jobs{state="RUNNING"}'], now["txworker_shim_jobs"]) == (1, 1)
        assert (now["txworker_output_bytes_total"], now["txworker_worker_instance"]) == (0, 2)
        assert second.query(job_id).done
        second.stub.StopJob(pb.StopJobReq(jobID=sleeping), timeout=LIMIT)
    finally:
        second.close()


@pytest.mark.slow
def test_store_trouble(a_daemon: Callable[..., Daemon]) -> None:
    """A worker whose state directory was moved away is not ready, says why, and is ready when it is back."""
    worker = a_daemon(WEB)
    state = worker.place / "state"
    state.rename(worker.place / "elsewhere")
    answer = wait_until(lambda: (found := ask(worker, "/readyz")).status == 503 and found)
    assert answer.text.startswith("store: this worker's store of jobs does not work: ")
    assert metrics(worker)['txworker_not_ready{cause="store"}'] == 1
    assert ask(worker, "/livez").status == 200
    (worker.place / "elsewhere").rename(state)
    wait_until(lambda: ask(worker, "/readyz").status == 200)


def test_address_in_use(tmp_path: Path) -> None:
    """A worker whose web address is taken does not start, and says so in one sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        config = tmp_path / "worker.toml"
        config.write_text(f'[grpc_server]\naddr = "127.0.0.1:0"\n[web]\naddr = "{addr}"\n')
        assert cannot_start(config) == f"txworker: web.addr: {addr}: Address already in use"


@contextmanager
def prometheus(place: Path, target: str) -> Iterator[Callable[[str], list[Any]]]:
    """A Prometheus that scrapes the target each second; yields a function that queries it."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "txworker", "static_configs": [{"targets": [target]}]}],
    }
    (place / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        addr = f"127.0.0.1:{free.getsockname()[1]}"
    words = [str(PROMETHEUS), f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data"]
    with (place / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*words, f"--web.listen-address={addr}"], stdout=log, stderr=log)

    def query(expression: str) -> list[Any]:
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://{addr}{path}", timeout=LIMIT) as answer:
                result: list[Any] = json.load(answer)["data"]["result"]
                return result
        except OSError:  # it does not serve yet
            assert process.poll() is None, (place / "prometheus.log").read_text()
            return []

    try:
        yield query
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed (Debian: apt-get install prometheus)")
def test_prometheus(tmp_path: Path, a_daemon: Callable[..., Daemon]) -> None:
    """A Prometheus that scrapes a worker under load counts every job, and an alert fires when the worker is gone."""
    worker = a_daemon(WEB)
    (tmp_path / "prometheus").mkdir()
    with prometheus(tmp_path / "prometheus", web_addr(worker)) as query:

        def value(expression: str) -> float:
            result = query(expression)
            return float(result[0]["value"][1]) if result else -1.0

        wait_until(lambda: value('up{job="txworker"}') == 1)
        request = pb.StartJobReq(command="true")
        calls = [worker.stub.StartJob.future(request, timeout=LIMIT) for _ in range(300)]
        ids = [call.result().jobID for call in calls]
        for job_id in ids:
            worker.end(job_id)
        wait_until(lambda: value("txworker_jobs_started_total") == 300)
        wait_until(lambda: value('txworker_jobs_ended_total{state="SUCCEEDED"}') == 300)
        assert value("txworker_job_launch_seconds_count") == 300
        assert value('sum(txworker_grpc_calls_total{method="StartJob", code="OK"})') == 300
        wait_until(lambda: value("sum(rate(txworker_jobs_started_total[1m]))") > 0)
        assert value("histogram_quantile(0.99, sum by (le) (rate(txworker_job_launch_seconds_bucket[1m])))") > 0
        assert value('ALERTS{alertname="TxworkerDown", alertstate="firing"}') == -1
        worker.stop(signal.SIGKILL)
        wait_until(lambda: value('ALERTS{alertname="TxworkerDown", alertstate="pending"}') == 1)


@pytest.mark.slow
def test_scheduler_and_certificate(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """A worker tells whether its scheduler has it, when that last answered, and when its certificate expires."""
    Authority().sign("worker").write(tmp_path, "server")
    scheduler = SchedulerStandIn()
    scheduler.start()
    try:
        tls = 'use_tls = true\ncrt_file = "../server.pem"\nkey_file = "../server.key"\n'
        worker = a_daemon(f'{WEB}[scheduler]\naddr = "{scheduler.addr}"\n', server=tls)
        answered = "txworker_scheduler_last_success_timestamp_seconds"
        wait_until(lambda: metrics(worker)[answered])
        now = wait_until(lambda: (found := metrics(worker))["txworker_scheduler_registered"] == 1 and found)
        assert abs(now[answered] - time.time()) < LIMIT
        expires_in = now["txworker_tls_certificate_expiry_timestamp_seconds"] - time.time()
        assert 23 * 3600 < expires_in <= 24 * 3600
    finally:
        scheduler.stop()
    wait_until(lambda: metrics(worker)["txworker_scheduler_registered"] == 0)


def _reloaded(worker: Daemon, succeeded: int) -> bool:
    return metrics(worker)["txworker_config_last_reload_successful"] == succeeded


@pytest.mark.slow
def test_reload(a_daemon: Callable[..., Daemon]) -> None:
    """A reload that fails shows in a metric until one succeeds; one that succeeds shows what it changed."""
    worker = a_daemon(WEB)
    good = worker.config.read_text()
    for max_running, succeeded in ((-1, 0), (7, 1)):
        worker.config.write_text(f"{good}\n[jobs]\nmax_running = {max_running}")
        worker.process.send_signal(signal.SIGHUP)
        wait_until(partial(_reloaded, worker, succeeded))
    assert metrics(worker)["txworker_jobs_max"] == 7


@pytest.mark.slow
def test_stop(a_daemon: Callable[..., Daemon]) -> None:
    """A worker with clients that scrape all the time, and one that never reads, ends in order; nothing is amiss."""
    worker = a_daemon(WEB)
    host, _, port = web_addr(worker).partition(":")
    with ExitStack() as open_until_then:
        for _ in range(5):
            client = open_until_then.enter_context(socket.create_connection((host, int(port)), LIMIT))
            client.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    client.send(1000 * b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
        ask(worker, "/metrics")
        assert worker.stop() == 0
    assert [line for line in worker.log().splitlines() if re.search("#(warn|error|critical)|Traceback", line)] == []
