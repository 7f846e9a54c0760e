"""TLS and mutual TLS, with certificates made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.support.command_line import txworker
from tests.support.daemon import LIMIT, Daemon
from tests.support.pems import Authority
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

TLS = 'use_tls = true\ncrt_file = "../server.pem"\nkey_file = "../server.key"\n'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority()
    made.sign("worker").write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(made.pem)
    return made


def ask(addr: str, credentials: grpc.ChannelCredentials | None) -> str:
    channel = grpc.insecure_channel(addr) if credentials is None else grpc.secure_channel(addr, credentials)
    with channel:
        return WorkerStub(channel).StartJob(pb.StartJobReq(command="true"), timeout=LIMIT).jobID


def assert_refused(addr: str, credentials: grpc.ChannelCredentials | None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(addr, credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_tls(a_daemon: Callable[..., Daemon], authority: Authority) -> None:
    """A client that trusts the authority is served; plaintext and strangers' trust are refused."""
    worker = a_daemon(server=TLS)
    assert ask(worker.addr, grpc.ssl_channel_credentials(authority.pem))
    assert_refused(worker.addr, None)
    assert_refused(worker.addr, grpc.ssl_channel_credentials(Authority().pem))


def test_mutual_tls(a_daemon: Callable[..., Daemon], authority: Authority) -> None:
    """Only clients with a certificate of the configured authority are served."""
    worker = a_daemon(server=TLS + 'client_ca_file = "../ca.pem"\n')
    ours, stranger = authority.sign("client"), Authority().sign("stranger")
    assert ask(worker.addr, grpc.ssl_channel_credentials(authority.pem, ours.key, ours.crt))
    assert_refused(worker.addr, grpc.ssl_channel_credentials(authority.pem))
    assert_refused(worker.addr, grpc.ssl_channel_credentials(authority.pem, stranger.key, stranger.crt))


def test_renewed_certificate(a_daemon: Callable[..., Daemon], authority: Authority, tmp_path: Path) -> None:
    """A certificate that is replaced on disk is served to the next client, without a restart."""
    worker = a_daemon(server=TLS)
    assert ask(worker.addr, grpc.ssl_channel_credentials(authority.pem))
    renewed = Authority()
    renewed.sign("worker").write(tmp_path, "server")
    assert ask(worker.addr, grpc.ssl_channel_credentials(renewed.pem))


def test_unfit_certificate(a_daemon: Callable[..., Daemon], authority: Authority, tmp_path: Path) -> None:
    """What cannot serve replaces nothing, whichever file it is in; the log says which, and never that it serves."""
    worker = a_daemon(server=TLS + 'client_ca_file = "../ca.pem"\n')
    ours = authority.sign("client")
    trust = grpc.ssl_channel_credentials(authority.pem, ours.key, ours.crt)
    for number, name in enumerate(("server.key", "server.pem", "ca.pem"), 1):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"garbage")
        assert ask(worker.addr, trust)
        assert ask(worker.addr, trust)
        told = [line for line in worker.log().splitlines() if "The old certificate goes on serving" in line]
        assert len(told) == number
        assert f"{tmp_path}/{name}" in told[-1].replace("worker0/../", "")
        (tmp_path / name).write_bytes(before)
        assert ask(worker.addr, trust)
    assert "is now in" not in worker.log()


def test_command_line(a_daemon: Callable[..., Daemon], authority: Authority, tmp_path: Path) -> None:
    """`txworker` says in one sentence what is wrong with the files, or with doing without them."""
    plain, worker = a_daemon(), a_daemon(server=TLS + 'client_ca_file = "../ca.pem"\n')
    authority.sign("client").write(tmp_path, "ours")
    (tmp_path / "words.pem").write_text("hello")
    (tmp_path / "other.pem").write_bytes(Authority().pem)
    ours = ("--tls-cert", "ours.pem", "--tls-key", "ours.key")
    speak = "; does it speak TLS, and is its certificate for that address, and of that CA?\n"
    table = [
        (worker, ("--tls-ca", "ca.pem", *ours), 0, ""),
        (worker, ("--tls-ca", "words.pem"), 1, "txworker: --tls-ca: no certificate (PEM) in words.pem\n"),
        (worker, (), 69, "; does it require TLS (--tls-ca)?\n"),
        (worker, ("--tls-ca", "other.pem", *ours), 69, speak),
        (plain, ("--tls-ca", "ca.pem"), 69, speak),
    ]
    for daemon, words, status, end in table:
        found, _, err = txworker(daemon, "--patience", "0", *words, "ps")
        assert (found, err.count("\n")) == (status, int(status > 0)), err
        assert err.endswith(end), err
