"""`txworker web` with real workers, asked over HTTP. tests/live/test_page_browser.py has it in a browser."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_cli_workers import config_home, name_workers
from tests.live.test_takeover import Again, again
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.page import PROGRAM, Page, output_until, page
from tests.support.pems import Authority
from tests.support.web import web_addr
from txworker.cli.examples import EXAMPLES
from txworker.pb import worker_pb2 as pb

__all__ = ["again", "config_home"]

ADaemon = Callable[..., Daemon]


def refused(*words: str) -> str:
    """The sentence with which `txworker web` does not start."""
    done = subprocess.run([*PROGRAM, "web", *words], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout) == (1, ""), done
    return done.stderr


def test_page(daemon: Daemon) -> None:
    """The list, a job's record, a range of its output, its output live from where a browser was, and a stop."""
    job_id = daemon.bash("echo hello; echo more; sleep 1000", labels={"night": "1"})
    with page(daemon.addr, "--allow-stop") as web:
        where = f"worker={daemon.addr}&id={job_id}"
        wait_until(lambda: web.json(f"api/jobs?text={job_id}&label=night&state=running")["total"] == 1)
        with web.events("api/events?label=night=1") as events, web.events(f"api/job/events?{where}") as live:
            assert job_id in [job["id"] for job in next(data for name, _, data in events if name == "list")["jobs"]]
            position, printed = output_until(live, b"more\n")
            assert (position, printed) == (11, b"hello\nmore\n")
            with web.events(f"api/job/events?{where}", Last_Event_ID="6") as resumed:
                assert output_until(resumed, b"more\n") == (11, b"more\n")
            assert web.ask(f"api/output?{where}&offset=6&limit=2").read() == b"mo"
            assert web.stop(worker=daemon.addr, id=job_id)["state"] in ("stopping", "stopped")
            last: dict[str, Any] = {}
            while not (last.get("record", {}).get("finished") and "end" in last):
                name, _, data = next(live)
                last[name] = data
            assert (last["record"]["state"], last["end"]) == ("stopped", 11)
        record = web.json(f"api/job?{where}")
        assert (record["args"], record["sizes"]["stdout"]) == (["echo hello; echo more; sleep 1000"], 11)
        assert web.ask("", Host="evil.example").status == 421


@pytest.mark.slow
def test_worker_restarts(a_daemon: ADaemon, again: Again) -> None:
    """A worker that is away is shown so; when it is back, list and output go on, without a gap and without a repeat."""
    worker = a_daemon()
    job_id = worker.bash("echo one; until [ -e go ]; do sleep 0.05; done; echo two")
    with (
        cutting_proxy(worker.addr, HARDLY_EVER) as proxy,
        page(proxy.addr) as web,
        web.events("api/events") as events,
        web.events(f"api/job/events?worker={proxy.addr}&id={job_id}&offset=0") as live,
    ):
        states = (data[0]["state"] for name, _, data in events if name == "workers")
        assert next(state for state in states if state == "connected")
        assert output_until(live, b"one\n") == (4, b"one\n")
        worker.stop(signal.SIGKILL)
        assert next(state for state in states if state == "away")
        proxy.upstream = again(worker).addr
        (worker.place / "go").touch()
        assert next(state for state in states if state == "connected")
        assert output_until(live, b"two\n") == (8, b"two\n")
        wait_until(lambda: web.json("api/jobs?state=succeeded")["total"] == 1)


@pytest.mark.slow
def test_several(a_daemon: ADaemon, config_home: Path) -> None:
    """All workers that client.toml names; one that is away takes nothing from the others. One watch for each."""
    one, two = a_daemon(), a_daemon("", "max_streams = 3")
    ids = {"one": one.start("sleep", "1000"), "two": two.start("sleep", "1000")}
    env = name_workers(config_home, one=one.addr, two=two.addr, gone="127.0.0.1:1")
    with page("--all-workers", env=env) as web:
        wait_until(lambda: web.json("api/jobs")["total"] == 2)
        assert {job["worker"]: job["id"] for job in web.json("api/jobs")["jobs"]} == ids
        assert [job["id"] for job in web.json("api/jobs?worker=two")["jobs"]] == [ids["two"]]
        expected = {"one": "connected", "two": "connected", "gone": "away"}
        wait_until(lambda: {one["name"]: one["state"] for one in web.json("api/workers")["workers"]} == expected)
        streams = [web.ask("api/events") for _ in range(10)]
        assert [stream.status for stream in streams] == [200] * 10
        two.start("true")
        wait_until(lambda: web.json("api/jobs?worker=two&state=succeeded")["total"] == 1)
        for stream in streams:
            stream.close()


@pytest.mark.slow
def test_within_the_worker(a_daemon: ADaemon) -> None:
    """web.page serves the page of one worker on its own HTTP server; it only shows, and the worker stops as ever."""
    worker = a_daemon('[web]\naddr = "127.0.0.1:0"\npage = true\n[worker]\nname = "w-1"')
    job_id = worker.bash("echo hello; sleep 1000")
    web = Page(f"http://{web_addr(worker)}/")
    assert web.ask("page").headers["Location"] == "page/"
    assert b"<!doctype html>" in web.ask("page/").read()
    wait_until(lambda: web.json("page/api/jobs")["total"] == 1)
    (shown,) = web.json("page/api/workers")["workers"]
    assert (shown["name"], shown["state"], web.json("page/api/workers")["mayStop"]) == ("w-1", "connected", False)
    with web.events(f"page/api/job/events?worker=w-1&id={job_id}") as live:
        assert output_until(live, b"hello\n") == (6, b"hello\n")
        assert worker.stop() == 0
    assert "is away" not in worker.log()


@pytest.mark.slow
def test_usage(daemon: Daemon) -> None:
    """A job that is busy is seen to be: CPU, memory and output over time."""
    job_id = daemon.bash("while echo busy; do :; done | head -c 100000000 | cat; while :; do :; done")
    with page(daemon.addr) as web, web.events(f"api/job/events?worker={daemon.addr}&id={job_id}&output=0") as live:
        samples: dict[str, list[Any]] = {}
        for name, _, data in live:
            if name == "samples":
                samples = {key: samples.get(key, []) + values for key, values in data.items()}
                if len(samples["time"]) > 2:
                    break
    assert max(samples["cpu"]) > 0  # a busy machine leaves it little
    assert min(samples["memory"]) > 1_000_000
    assert samples["output"][-1] > 0
    assert samples["time"] == sorted(samples["time"])
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)


@pytest.mark.slow
def test_separate_stderr(daemon: Daemon) -> None:
    """Each stream has its own size and its own output."""
    job_id = daemon.bash("printf 'out'; printf 'error' >&2; sleep 0.2", separateStderr=True)
    daemon.end(job_id)
    with page(daemon.addr) as web:
        where = f"worker={daemon.addr}&id={job_id}"
        assert web.json(f"api/job?{where}")["sizes"] == {"stdout": 3, "stderr": 5}
        with web.events(f"api/job/events?{where}&stderr=1") as live:
            assert output_until(live, b"error") == (5, b"error")


@pytest.mark.slow
def test_tls(daemon: Daemon, tmp_path: Path) -> None:
    """Beyond loopback only a client with a certificate of the CA is served; on loopback TLS may be had without one."""
    authority, users = Authority(), Authority()
    authority.sign("page").write(tmp_path, "page")
    users.sign("ann").write(tmp_path, "ann")
    (tmp_path / "users.pem").write_bytes(users.pem)
    files = ("--web-cert", f"{tmp_path}/page.pem", "--web-key", f"{tmp_path}/page.key")
    context = ssl.create_default_context(cadata=authority.pem.decode())
    words = (daemon.addr, *files, "--client-ca", f"{tmp_path}/users.pem", "--name", "127.0.0.1")
    context.set_alpn_protocols(["h2", "http/1.1"])  # as browsers do
    with page(*words, listen="0.0.0.0:0", tls=context) as web:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            web.json("api/workers")
        context.load_cert_chain(tmp_path / "ann.pem", tmp_path / "ann.key")
        assert web.json("api/workers")["mayStop"] is False
    with page(daemon.addr, *files, tls=ssl.create_default_context(cadata=authority.pem.decode())) as web:
        assert web.url.startswith("https://")
        assert web.json("api/workers")["workers"][0]["name"] == daemon.addr


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line, _ in EXAMPLES["web"]])
def test_examples(daemon: Daemon, config_home: Path, line: str) -> None:
    """What --help shows serves a page, but for the port that others may have."""
    Authority().sign("page").write(config_home, "page")
    (config_home / "users.pem").write_bytes(Authority().pem)
    env = {**name_workers(config_home, build=daemon.addr, test=daemon.addr), "TXWORKER_ADDR": daemon.addr}
    words = line.replace("0.0.0.0:443", "0.0.0.0:0").split()[2:]
    listen = words[words.index("--listen") + 1] if "--listen" in words else "127.0.0.1:0"
    context = ssl.create_default_context()
    with page(*words, "--listen", listen, env=env, cwd=config_home, tls=context) as web:
        assert web.url.startswith("https://" if "--web-cert" in words else "http://")


@pytest.mark.slow
def test_refusals(daemon: Daemon, tmp_path: Path) -> None:
    """What cannot be served is told in one sentence, and nothing listens."""
    authority = Authority()
    authority.sign("page").write(tmp_path, "page")
    authority.sign("other").write(tmp_path, "other")
    cert, key, other = (f"{tmp_path}/{name}" for name in ("page.pem", "page.key", "other.key"))
    table = {
        "is not a loopback address: beyond this machine": ["--listen", "0.0.0.0:0"],
        "not a loopback address": ["--listen", "[::]:0", "--web-cert", cert, "--web-key", key],
        "--web-cert and --web-key go together": ["--web-cert", cert],
        "--client-ca needs --web-cert and --web-key": ["--client-ca", cert],
        f"cannot listen on {daemon.addr}": ["--listen", daemon.addr],
        f"--web-key: {other} is not the key of the certificate": ["--web-cert", cert, "--web-key", other],
        f"--web-cert: no certificate (PEM) in {key}": ["--web-cert", key, "--web-key", key],
        "--web-cert: /none: No such file": ["--web-cert", "/none", "--web-key", key],
        "/none: No such file": ["--tls-ca", "/none"],
    }
    for sentence, words in table.items():
        said = refused("--addr", daemon.addr, "--listen", "127.0.0.1:0", *words)
        assert sentence in said
        assert "Traceback" not in said


@pytest.mark.slow
def test_json(daemon: Daemon) -> None:
    """The line that says where the page is, for people and for programs."""
    for words, start in (([], "http://127.0.0.1:"), (["--json"], "{")):
        command = [*PROGRAM, "web", daemon.addr, "--listen", "127.0.0.1:0", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(start)
            if words:
                assert json.loads(line)["workers"] == [daemon.addr]
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) == 0
