"""
The commands of the operators' pages, run as they stand there: beside a worker that is a daemon, in a directory of the
test's own, and beside one that is a unit of a real systemd, where the page's own paths are used.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.live.test_journal import JOURNALD
from tests.live.test_journal import UNIT as JOURNAL
from tests.support.daemon import LIMIT
from tests.support.shell_pages import PAGES, STORY, TOP, Block, blocks, missing, names, unprinted
from tests.support.systemd import Systemd, why_not
from txworker.config import load

BLOCKS = [block for page in PAGES for block in blocks(page)]
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BLOCK_SECONDS, INSTALL_SECONDS = 240.0, 600.0
"""Limits of blocks that hang; promtool alone takes five seconds of a CPU, and the machine may be busy."""

PRIVATE = ("/etc", "/opt", "/srv", "/var")
TARGETS = ("sysinit", "basic", "multi-user", "network-online", "shutdown")

NEVER_RUN = {
    "apt-get": "it would install packages on the machine of whoever runs the tests",
    "install": "it would make a directory of root's outside the tests' own",
    "podman": "it needs a container engine; tests/live/test_container.py builds and runs the image where one works",
}
"""The programs of the blocks that are marked so, each with the reason."""

ENGINE_OPTIONS = {
    "build": {"--format", "-t", "-f"},
    "run": {"-d", "--name", "-p", "-v", "--security-opt", "--stop-timeout", "--user"},
    "exec": set[str](),
}
"""The options of podman's and docker's commands (--format is podman's) that the pages may use."""


class Shell:
    """
    Runs blocks one after the other, with what those before have assigned and exported.

    command: what runs bash there.
    """

    def __init__(self, place: Path, values: Mapping[str, str], path: str, command: Callable[..., list[str]]) -> None:
        self.values = dict(values)
        self._environment = {"HOME": str(place), "LANG": "C.UTF-8", "PATH": path, **values}
        self._kept = place / "environment"
        self._command = command

    def run(self, block: Block) -> None:
        """Run the block, and compare its status and what it prints with what the page says."""
        process = self._begin(block.script)
        head = self._interrupt(process, block) if block.until else ""
        output = head + process.communicate(timeout=INSTALL_SECONDS if "pypi" in block.needs else BLOCK_SECONDS)[0]
        expected = (0, 130, -signal.SIGINT) if block.until else (block.status,)
        assert process.returncode in expected, f"{block}\nstatus {process.returncode}:\n{output}"
        line = unprinted(block, output, self.values)
        assert not line, f"{block}\ndoes not print {line!r}:\n{output}"
        with contextlib.suppress(FileNotFoundError):
            pairs = (pair.partition("=") for pair in self._kept.read_text().split("\0") if pair)
            self._environment = {name: value for name, _, value in pairs}

    def _begin(self, script: str) -> subprocess.Popen[str]:
        script = f"""
set -eu -o pipefail -o allexport
cd {shlex.quote(str(TOP))}
trap 'env -0 >{shlex.quote(str(self._kept))}' EXIT
{script}"""
        return subprocess.Popen(
            self._command("bash", "-c", script),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _interrupt(self, process: subprocess.Popen[str], block: Block) -> str:
        """Ctrl-C once all that the page shows is there, and the block's word; what was printed until then."""
        head = ""
        assert process.stdout is not None
        limit = threading.Timer(BLOCK_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        try:
            for line in process.stdout:
                head += line
                if block.until in head and not unprinted(block, head, self.values):
                    os.killpg(process.pid, signal.SIGINT)
                    return head
        finally:
            limit.cancel()
        missing_line = unprinted(block, head, self.values) or block.until
        raise AssertionError(f"{block}\ndoes not print {missing_line!r}:\n{head}")


def free_addresses() -> dict[str, str]:
    """
    Addresses on loopback for the names that are addresses: with ports that the kernel gives to nobody who asks for any.
    """
    first_of_any = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    names = ("TXWORKER_ADDR", "WEB_ADDR", "PAGE_ADDR")
    ports = filter(is_free, random.sample(range(first_of_any // 2, first_of_any), 100))
    return {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=False)}


def is_free(port: int) -> bool:
    """Nobody listens there."""
    with socket.socket() as taken, contextlib.suppress(OSError):
        taken.bind(("127.0.0.1", port))
        return True
    return False


def end_all(data: str) -> None:
    """KILL to every process with that DATA in its environment: a worker, its shim, and its jobs."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if f"DATA={data}".encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                os.kill(int(name), signal.SIGKILL)


@pytest.fixture
def daemons_shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in which every path is below the test's directory, and the programs are those that are tested."""
    paths = {name: f"{tmp_path}{value}" for name, value in names().items() if value.startswith("/")}
    values = {**paths, **free_addresses(), "PROGRAMS": str(Path(sys.executable).parent.parent)}
    (tmp_path / "etc" / "logrotate.d").mkdir(parents=True)
    yield Shell(tmp_path, values, f"{os.environ['PATH']}:/usr/sbin:/sbin", lambda *words: list(words))
    end_all(values["DATA"])


@pytest.fixture
def units_shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell beside a systemd, on a machine whose paths are the page's and private to the test."""
    if reason := why_not():
        pytest.skip(reason)
    if not os.access(JOURNALD, os.X_OK):
        pytest.skip("there is no journal here")
    if not pypi(tmp_path):
        pytest.skip("pip reaches no index of packages here")
    units = {f"{name}.target": "[Unit]\nDefaultDependencies=no\n" for name in TARGETS}
    try:
        systemd = Systemd(tmp_path, {**units, "journal.service": JOURNAL}, PRIVATE)
    except AssertionError as error:
        pytest.skip(f"systemd does not boot here: {error}")
    try:
        if systemd.systemctl("start", "journal").returncode:
            pytest.skip("the journal does not start here")
        yield Shell(tmp_path, {**names(), **free_addresses()}, SYSTEM_PATH, systemd.beside)
    finally:
        systemd.close()


def pypi(place: Path) -> bool:
    """Whether pip can install something."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), "constantly"]
    return subprocess.run(words, capture_output=True, timeout=INSTALL_SECONDS, check=False).returncode == 0


@pytest.mark.slow
def test_beside_a_daemon(daemons_shell: Shell) -> None:
    """Every block for a worker that twistd runs as a daemon does what the page says."""
    for block in BLOCKS:
        if "daemon" in block.places and not missing(block):
            daemons_shell.run(block)


@pytest.mark.slow
def test_beside_a_unit(units_shell: Shell) -> None:
    """Every block for a worker that is installed and run by systemd does, with the paths that stand in the page."""
    for block in BLOCKS:
        if "systemd" in block.places and not missing(block):
            units_shell.run(block)


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted({name for block in BLOCKS for name in block.needs} - {"pypi"}))
def test_needed_programs(program: str) -> None:
    """Says which blocks are not run here, for want of a program."""
    left_out = [block.heading for block in BLOCKS if program in missing(block)]
    if left_out:
        pytest.skip(f"there is no {program} here; not run: {', '.join(left_out)}")


def test_every_block_is_run() -> None:
    """No command of the pages is in another kind of block; a block that is never run has a reason in the table."""
    for page in PAGES:
        text = (TOP / page).read_text(encoding="utf-8")
        fences = re.findall(r"^ *```(\w*)$", text, re.MULTILINE)
        assert set(fences[::2]) <= {"sh", "text", "toml", "yaml"}, page
        assert set(fences[1::2]) <= {""}, page
        assert fences.count("sh") == len(blocks(page)), page
        assert fences.count("text") == sum(bool(block.printed) for block in blocks(page)), page
        assert re.findall(r"^    (?:txworker|twistd|systemctl|journalctl|kill) ", text, re.MULTILINE) == [], page
    programs = {shlex.split(line, comments=True)[0] for block in BLOCKS if not block.places for line in lines(block)}
    assert programs == set(NEVER_RUN)
    assert all(block.places for page in STORY[1:] for block in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_configurations(page: str, tmp_path: Path) -> None:
    """What a page says to write into worker.toml is a configuration that a worker takes."""
    for number, text in enumerate(
        re.findall(r"^```toml\n(.*?)^```$", (TOP / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        assert load(path).source == path


def lines(block: Block) -> list[str]:
    """The block's commands, one on each line."""
    return [line for line in block.script.splitlines() if line]


def test_container_commands() -> None:
    """The lines for engines use options that both know, and ports, paths and commands that the image has."""
    image = (TOP / "Containerfile").read_text()
    for line in (line for block in BLOCKS if not block.places for line in lines(block) if line.startswith("podman")):
        _, command, *words = shlex.split(line, comments=True)
        assert {word for word in words if word.startswith("-") and command != "exec"} <= ENGINE_OPTIONS[command], line
        if command == "run":
            assert words[words.index("-p") + 1].endswith(":30000")
            assert f"VOLUME {words[words.index('-v') + 1].partition(':')[2]}" in image
        if command == "exec":
            assert words[1] == "txworker"


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker here")
def test_docker_knows_the_options() -> None:
    """Its own --help has them; no daemon is needed for that."""
    for command, options in ENGINE_OPTIONS.items():
        said = subprocess.run(["docker", command, "--help"], capture_output=True, text=True, timeout=LIMIT).stdout
        for option in options - {"--format"}:
            assert re.search(rf"(?:^|\s){option}\b", said), (command, option)
