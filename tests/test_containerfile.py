"""
The Containerfile, as far as it can be judged without a builder; tests/live/test_container.py builds it where there is
one.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from pathlib import Path

import tomli
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.parser import parse
from txworker.config import load
from txworker.daemon.service import Options

TOP = Path(__file__).resolve().parent.parent
HOME = "/var/lib/txworker"


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its arguments."""
    text = re.sub(r"^#.*\n", "", (TOP / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def arguments(name: str) -> list[str]:
    """The arguments of every instruction with that name."""
    return [rest for found, rest in instructions() if found == name]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file out of the build."""
    out = False
    for line in (TOP / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = [path, *map(str, Path(path).parents)] if not line.startswith("**/") else path.split("/")
        if line and not line.startswith("#") and any(fnmatch.fnmatchcase(part, pattern) for part in parts):
            out = not line.startswith("!")
    return out


class ContainerfileTests(SynchronousTestCase):
    def test_instructions(self) -> None:
        """Nothing but what every builder knows."""
        known = "ARG FROM WORKDIR COPY RUN ENV USER VOLUME EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD"
        self.assertEqual(set(), {name for name, _ in instructions()} - set(known.split()))

    def test_copied_files(self) -> None:
        """Every file that is copied is there, and part of what the builder is sent."""
        for rest in arguments("COPY"):
            *sources, _ = rest.split()
            for source in sources if not sources[0].startswith("--from=") else ():
                self.assertTrue((TOP / source).exists(), source)
                self.assertFalse(ignored(source), source)
        self.assertTrue(ignored(".git"))
        self.assertTrue(ignored("tests"))
        self.assertTrue(ignored("txworker/cli/__pycache__"))

    def test_what_the_wheel_is_built_of(self) -> None:
        """pip finds every file that pyproject.toml names."""
        copied = {source for rest in arguments("COPY") for source in rest.split()[:-1]}
        project = tomli.loads((TOP / "pyproject.toml").read_text())
        wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
        needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
        needed |= {*wheel["packages"], *wheel["shared-data"]}
        missing = {name for name in needed if not copied & {name, *map(str, Path(name).parents)}}
        self.assertEqual(set(), missing)
        (install,) = (rest for rest in arguments("RUN") if "pip" in rest)
        self.assertIn(
            "/opt/txworker/bin/pip install --no-cache-dir --disable-pip-version-check '.[web,otel]' ", install
        )

    def test_user(self) -> None:
        """The worker is not root: the last USER is a number, for Kubernetes' runAsNonRoot, and owns the volume."""
        (user,) = arguments("USER")
        uid, _, gid = user.partition(":")
        (made,) = (rest for rest in arguments("RUN") if "useradd" in rest)
        self.assertIn(f"--uid {uid} --gid {gid} --home-dir {HOME} --create-home", made)
        self.assertEqual([HOME], arguments("VOLUME"))

    def test_commands(self) -> None:
        """The worker starts with options that twistd and it know; the health check is a command of the program."""
        (healthcheck,) = arguments("HEALTHCHECK")
        words = json.loads(healthcheck.partition(" CMD ")[2])
        self.assertEqual(("txworker", "health", True), (words[0], parse(words[1:]).command_name, parse(words[1:]).live))
        (entrypoint,), (command,) = map(json.loads, arguments("ENTRYPOINT")), map(json.loads, arguments("CMD"))
        self.assertEqual(["twistd", "-n", "--pidfile="], entrypoint)
        self.assertEqual("worker", command[0])
        self.assertIn(command[1].removeprefix("--"), [name for name, *_ in Options.optParameters])
        self.assertIn(f"COPY container/worker.toml {command[2]}", " ".join(map(" ".join, instructions())))

    def test_configuration(self) -> None:
        """The worker's configuration is good, and all that it writes is in the volume; its socket is $TXWORKER_ADDR."""
        path = Path("worker.toml")
        path.write_text((TOP / "container" / "worker.toml").read_text().replace(f'directory = "{HOME}"', "", 1))
        config = load(path)
        self.assertEqual("0.0.0.0:30000", config.grpc_server.addr)
        self.assertEqual(HOME, str(config.jobs.output_directory.parent))
        (variables,) = arguments("ENV")
        self.assertIn(f"TXWORKER_ADDR=unix:{config.jobs.state_directory}/control.sock", shlex.split(variables))
