"""TLS files that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.pems import Authority
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.tls_files import credentials


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with good and bad files of each kind."""
    authority = Authority()
    ours = authority.sign("ours")
    ours.write(tmp_path, "ours")
    authority.sign("other").write(tmp_path, "other")
    key = serialization.load_pem_private_key(ours.key, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "ca.pem").write_bytes("# Autorität\n".encode() + authority.pem)
    (tmp_path / "damaged.pem").write_bytes(authority.pem.replace(b"A", b"!"))
    (tmp_path / "encrypted.key").write_bytes(encrypted)
    (tmp_path / "empty.pem").touch()
    (tmp_path / "words.pem").write_text("hello")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_good(directory: Path) -> None:
    """Every valid combination is accepted."""
    assert credentials("ca.pem", None, None)
    assert credentials("ca.pem", "ours.pem", "ours.key")
    assert credentials(None, "ours.pem", "ours.key")


def test_a_pipe(directory: Path) -> None:
    """A file may be a pipe that can be read only once, as the shell's <(...) is."""
    names = []
    for name in ("ca.pem", "ours.pem", "ours.key"):
        end, begin = os.pipe()
        os.write(begin, (directory / name).read_bytes())
        os.close(begin)
        names.append(f"/dev/fd/{end}")
    assert credentials(*names)
    for name in names:
        os.close(int(name.rpartition("/")[2]))


def test_bad(directory: Path) -> None:
    """Each error names the option and the file."""
    table: list[tuple[tuple[str | None, str | None, str | None], str]] = [
        (("words.pem", None, None), "--tls-ca: no certificate (PEM) in words.pem"),
        (("empty.pem", None, None), "--tls-ca: no certificate (PEM) in empty.pem"),
        (("damaged.pem", None, None), "--tls-ca: no certificate (PEM) in damaged.pem"),
        (("ours.key", None, None), "--tls-ca: no certificate (PEM) in ours.key"),
        (("ca.pem", "words.pem", "ours.key"), "--tls-cert: no certificate (PEM) in words.pem"),
        (("ca.pem", "ours.pem", "words.pem"), "--tls-key: no private key (PEM) in words.pem"),
        (("ca.pem", "ours.pem", "other.key"), "--tls-key: other.key is not the key of the certificate in ours.pem"),
        (
            (None, "ours.pem", "encrypted.key"),
            "--tls-key: the key in encrypted.key is encrypted, and gRPC cannot decrypt it",
        ),
    ]
    for names, sentence in table:
        with pytest.raises(Failed) as caught:
            credentials(*names)
        assert (str(caught.value), caught.value.status) == (sentence, REFUSED)
