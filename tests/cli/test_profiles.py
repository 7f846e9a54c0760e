"""The workers that a user has named."""

from __future__ import annotations

from pathlib import Path

import pytest

from txworker.cli.profiles import Profile, WrongProfiles, chosen, profiles_path, read_profiles


def test_path() -> None:
    """The file is where XDG has it."""
    assert profiles_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/txworker/client.toml")
    for environ in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert profiles_path(environ) == Path.home() / ".config/txworker/client.toml"


def test_good(tmp_path: Path) -> None:
    """Files are relative to it; all workers, or those that are named; none where there is no file."""
    path = tmp_path / "client.toml"
    assert read_profiles(path) == {}
    path.write_text(
        '[workers.b]\naddr = "b:1"\ntls_ca = "ca.pem"\ntls_cert = "/c.pem"\ntls_key = "k"\n[workers.a]\naddr = "a:2"\n'
    )
    b = Profile("b", "b:1", str(tmp_path / "ca.pem"), "/c.pem", str(tmp_path / "k"))
    assert chosen(path, []) == [b, Profile("a", "a:2")]
    assert chosen(path, ["a"]) == [Profile("a", "a:2")]


def test_no_file(tmp_path: Path) -> None:
    """Where there is no file, that is what is told."""
    for names in ([], ["a"]):
        with pytest.raises(WrongProfiles, match=f"^there is no {tmp_path}/client.toml, which names workers$"):
            chosen(tmp_path / "client.toml", names)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no worker"),
        ("[", "client.toml: "),
        ("addr = 'a:1'", "must contain only tables"),
        ("workers = 1", "must contain only tables"),
        ("workers.a = 1", "workers.a must be a table of strings"),
        ("workers.a.addr = 1", "workers.a must be a table of strings"),
        ("workers.a.adr = 'a:1'", "workers.a.adr: unknown key; the keys are addr, tls_ca, tls_cert, tls_key"),
        ("workers.a.addr = 'a'", "workers.a.addr: must be HOST:PORT (or unix:PATH), not 'a'"),
        ("workers.a.tls_ca = 'a'", "workers.a.addr: must be HOST:PORT (or unix:PATH), not ''"),
        ("workers.a = {addr = 'a:1', tls_key = 'k'}", "workers.a: tls_cert and tls_key go together"),
        ("workers.a.addr = 'a:1'", "has no worker 'b'; it has a"),
    ],
)
def test_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    """Each mistake is one sentence that names the file and what in it is wrong."""
    path = tmp_path / "client.toml"
    path.write_text(text)
    with pytest.raises(WrongProfiles) as caught:
        chosen(path, ["b"] if "names" not in sentence else [])
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
