"""Starts that a real worker refuses: each says what is in the way, and for which user."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.daemon import LIMIT, Daemon
from tests.support.other_users import AS_NOBODY, ROOT, open_directory
from txworker.pb import worker_pb2 as pb

DENIED, MISSING, INVALID = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
)

Refusal = tuple[dict[str, Any], grpc.StatusCode, str]
"""A request, and with what it is refused."""


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Daemon]]:
    """The worker with these words in [jobs], which is there for all of this file."""
    made: dict[str, Daemon] = {}

    def worker(jobs: str) -> Daemon:
        if jobs not in made:
            made[jobs] = Daemon(tmp_path_factory.mktemp("worker"), f"[jobs]\n{jobs}")
        return made[jobs]

    yield worker
    for one in made.values():
        one.close()


@pytest.fixture(params=["", pytest.param(AS_NOBODY, marks=ROOT)], ids=["as the worker", "as nobody"])
def jobs(request: pytest.FixtureRequest) -> str:
    """What [jobs] says."""
    return str(request.param)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter, with programs that cannot be executed, and with another directory."""
    with open_directory() as place:
        closed = place / "closed"
        (closed / "deeper").mkdir(parents=True)
        (place / "link").symlink_to(closed / "deeper")
        (place / "circle").symlink_to(place / "circle")
        (place / "dangling").symlink_to("/no/such/file")
        elf = Path("/bin/true").read_bytes()
        (place / "foreign").write_bytes(elf.replace(b"/ld-linux", b"/no-linux", 1))
        (place / "foreign").chmod(0o755)
        (place / "other machine").write_bytes(elf[:18] + b"\xff\xff" + elf[20:])
        (place / "other machine").chmod(0o755)
        for name, mode, text in (
            ("plain", 0o644, "#!/bin/sh\n"),
            ("script", 0o755, f"#!{place}/plain\n"),
            ("orphan", 0o755, "#!/no/such/interpreter -x\n"),
            ("relative", 0o755, "#!./plain\n"),
            ("own interpreter", 0o755, f"#!{place}/chain1\n"),
            *((f"chain{number}", 0o755, f"#!{place}/chain{number + 1}\n") for number in range(8)),
            ("by circle", 0o755, f"#!{place}/circle\n"),
            ("by foreign", 0o755, f"#!{place}/foreign\n"),
            ("below", 0o755, f"#!{closed}/interpreter\n"),
            ("long line", 0o755, f"#!/{'x' * 253}\n"),
            ("long name", 0o755, f"#!/{'x' * 252}\n"),
            ("no name", 0o755, "#! \t\n"),
            ("text", 0o755, "echo\n"),
            ("by text", 0o755, f"#!{place}/text{' ' * 300}\n"),
            ("group only", 0o610, "#!/bin/sh\n"),
            ("closed/interpreter", 0o755, "#!/bin/sh\n"),
        ):
            (place / name).write_text(text)
            (place / name).chmod(mode)
        yield place


def refused(daemon: Daemon, **order: Any) -> tuple[grpc.StatusCode, str]:
    """With what a start is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        daemon.stub.StartJob(pb.StartJobReq(**order), timeout=LIMIT)
    return caught.value.code(), str(caught.value.details())


def check(daemon: Daemon, refusals: list[Refusal]) -> None:
    """Each request is refused so."""
    for request, code, words in refusals:
        found = refused(daemon, **request)
        assert found[0] == code, found
        assert words in found[1], found


def of_programs(place: Path) -> list[Refusal]:
    """What cannot be executed, by any user."""
    here = {"directory": str(place)}
    no_interpreter = "the interpreter that its first line names, '/no/such/interpreter', is"
    return [
        ({"path": "./plain", **here}, DENIED, "command: './plain': is not executable (chmod +x)"),
        ({"path": "./script", **here}, DENIED, f"its interpreter '{place}/plain' is not executable"),
        ({"path": "./relative", **here}, DENIED, f"its interpreter '{place}/./plain' is not executable"),
        ({"path": str(place / "closed" / "deeper")}, DENIED, "is a directory, not a program"),
        ({"path": "./orphan", **here}, MISSING, no_interpreter),
        ({"command": "orphan", "env": {"PATH": str(place)}}, MISSING, "'/no/such/interpreter'"),
        ({"command": "plain", "env": {"PATH": f"/no:{place}"}}, DENIED, f"{place}/plain: is not executable"),
        (
            {"command": "nowhere", "env": {"PATH": f"{place}/closed:/bin"}},
            MISSING,
            "command: 'nowhere': no such executable",
        ),
        ({"path": "true", "directory": str(place / "plain")}, MISSING, "is not a directory"),
        ({"path": "true", "directory": str(place / "plain" / "x")}, MISSING, f"'{place}/plain' is not a directory"),
        ({"path": "true", "directory": str(place / "circle")}, MISSING, "is a symbolic link that leads back to itself"),
        ({"path": "./circle", **here}, MISSING, "command: './circle': is a symbolic link that leads back to itself"),
        ({"path": "./circle/x", **here}, MISSING, f"'{place}/circle' is a symbolic link that leads back to itself"),
        ({"path": "./dangling", **here}, MISSING, "is a symbolic link to '/no/such/file', which is not there"),
        ({"path": "./plain/x", **here}, MISSING, f"'{place}/plain' is not a directory"),
        ({"path": "./own interpreter", **here}, MISSING, "is a script itself, and so on, further than the kernel"),
        ({"path": "./by circle", **here}, MISSING, f"names, '{place}/circle', is a symbolic link that leads back"),
        ({"path": "./foreign", **here}, MISSING, "the loader that this program names is not there"),
        ({"path": "./by foreign", **here}, MISSING, f"the loader that '{place}/foreign' names is not there"),
        ({"path": "./other machine", **here}, INVALID, "is a program for another kind of machine, or a damaged one"),
        ({"command": ".", "env": {"PATH": str(place)}}, MISSING, f"'{place}/.' is a directory, not a program"),
        (
            {"command": "closed", "env": {"PATH": str(place)}},
            MISSING,
            f"'{place}/closed' is a directory, not a program",
        ),
        ({"path": "true", "directory": "x" * 300}, INVALID, "directory: "),
    ]


def of_first_lines(place: Path) -> list[Refusal]:
    """Scripts with a #! line that the kernel cannot use."""
    here = {"directory": str(place)}
    return [
        ({"path": "./long line", **here}, INVALID, "has a #! line that is too long: the interpreter's name must end"),
        ({"command": "'long line'", "env": {"PATH": str(place)}}, INVALID, "has a #! line that is too long"),
        ({"path": "./long name", **here}, MISSING, "the interpreter that its first line names, '/xxxx"),
        ({"path": "./no name", **here}, INVALID, "'./no name' has a #! line that names no interpreter"),
        (
            {"path": "./by text", **here},
            INVALID,
            f"names '{place}/text' as its interpreter, which is neither a program",
        ),
    ]


def of_rights(place: Path, user: str) -> list[Refusal]:
    """What that user may not do, while the directory is closed to it."""
    closed = place / "closed"
    may_not = f"{user} may not enter '{closed}'"
    return [
        ({"path": "true", "directory": str(closed / "deeper")}, DENIED, may_not),
        ({"path": "true", "directory": str(place / "link")}, DENIED, may_not),
        ({"path": str(closed / "interpreter")}, DENIED, may_not),
        ({"path": str(place / "below")}, DENIED, may_not),
        ({"path": "true", "directory": str(closed)}, DENIED, f"{user} may not enter it"),
        ({"path": str(place / "group only")}, DENIED, f"{user} may not execute it"),
    ]


def test_no_program(workers: Callable[[str], Daemon], place: Path, jobs: str) -> None:
    """A program that cannot be executed is named, and so is what it lacks."""
    check(workers(jobs), of_programs(place) + of_first_lines(place))


def test_no_right(workers: Callable[[str], Daemon], place: Path) -> None:
    """
    A start that is not permitted names the directory or the file that is in the way, and for which user: the jobs', if
    the worker is root's, which may do all of it.
    """
    jobs = "" if os.getuid() else AS_NOBODY
    user = "the jobs' user (nobody)" if jobs else f"the worker (user {pwd.getpwuid(os.getuid()).pw_name})"
    (place / "closed").chmod(0)
    check(workers(jobs), of_rights(place, user))


@ROOT
def test_noexec(daemon: Daemon, tmp_path: Path) -> None:
    """A mount that allows no program is named."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("this machine lets nothing be mounted")
    try:
        script = tmp_path / "script"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        code, text = refused(daemon, path=str(script))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert f"is on a file system that is mounted noexec ({tmp_path})" in text


@pytest.mark.parametrize("order", [{}, {"limits": pb.Limits(maxOpenFiles=99)}])
def test_busy(daemon: Daemon, tmp_path: Path, order: dict[str, Any]) -> None:
    """An executable that is being written to can be tried again."""
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    with program.open("ab"):
        code, text = refused(daemon, path=str(program), **order)
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "try again" in text
    daemon.end(daemon.start(str(program)))


def test_leftovers_word(daemon: Daemon) -> None:
    """Another word is refused by field and value."""
    code, text = refused(daemon, command="true", leftovers="kill")
    assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "leftovers: 'kill' must be 'end' or 'keep'")
