"""The environment of a job's process."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import JOB_ID_VARIABLE, JobSpec
from txworker.process.environ import base_environment, environment, environment_as_started, with_configured

OTHER = pwd.struct_passwd(("other", "x", 7, 7, "", "/home/other", ""))


class StartedTests(SynchronousTestCase):
    def test_as_the_kernel_has_it(self) -> None:
        """Variables that Python adds are not included; of a name that occurs twice the first counts, to the byte."""
        place = Path(self.mktemp())
        place.write_bytes(b"A=1\0A=2\0EMPTY=\0B=\xff=\0odd\0")
        self.assertEqual({"A": "1", "EMPTY": "", "B": "\udcff="}, environment_as_started(str(place)))

    def test_not_shown(self) -> None:
        """Where /proc does not show the environment, it is Python's."""
        self.assertEqual(dict(os.environ), environment_as_started("/no/such/file"))


class BaseTests(SynchronousTestCase):
    def test_of_the_worker(self) -> None:
        """Variables about the worker's own process are left out; PWD is the jobs' directory."""
        started = {"A": "1", "PWD": "/root", "OLDPWD": "/", "_": "x", "NOTIFY_SOCKET": "/run/x", "HOME": "/root"}
        self.assertEqual({"A": "1", "HOME": "/root", "PWD": "/srv/jobs"}, base_environment(started, "/srv/./jobs/"))
        self.assertNotIn("PWD", base_environment(started, "/srv/../jobs"))

    def test_of_its_own_user(self) -> None:
        """When jobs run as the worker's own user by name, the environment names the user; nothing else is left out."""
        own = pwd.struct_passwd(("me", "x", os.getuid(), 0, "", "/home/me", "/bin/zsh"))
        found = base_environment({"MAIL": "m", "XDG_X": "x"}, "/", own)
        self.assertEqual({"MAIL", "XDG_X", "HOME", "USER", "LOGNAME", "SHELL", "PWD"}, set(found))

    def test_of_another_user(self) -> None:
        """When jobs run as another user, variables about the worker's user are left out too."""
        started = {"A": "1", "MAIL": "m", "USERNAME": "root", "SESSION_MANAGER": "s"}
        started |= dict.fromkeys(("XDG_X", "DBUS_X", "SUDO_X", "SSH_X", "PULSE_X"), "x")
        started |= dict.fromkeys(("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"), "secret")
        self.assertEqual(
            {"A": "1", "HOME": "/home/other", "USER": "other", "LOGNAME": "other", "SHELL": "/bin/sh", "PWD": "/"},
            base_environment(started, "/", OTHER),
        )


class ConfiguredTests(SynchronousTestCase):
    def test_unbuffered(self) -> None:
        """Python's output is unbuffered unless the worker's environment or the configuration says otherwise."""
        self.assertEqual({"PYTHONUNBUFFERED": "1", "A": "1"}, with_configured({"A": "1"}, {}))
        self.assertEqual({"PYTHONUNBUFFERED": "x"}, with_configured({"PYTHONUNBUFFERED": "x"}, {}))
        for inherited in ({}, {"PYTHONUNBUFFERED": "1"}):
            self.assertEqual({"PYTHONUNBUFFERED": ""}, with_configured(inherited, {"PYTHONUNBUFFERED": ""}))

    def test_configured(self) -> None:
        """Configured variables replace inherited ones, and the request's replace both."""
        base = with_configured({"A": "inherited", "B": "inherited"}, {"B": "configured", "C": "configured"})
        found = environment(base, JobSpec("true", env={"C": "request", "PYTHONUNBUFFERED": ""}), "id", "/")
        self.assertEqual(
            {"A": "inherited", "B": "configured", "C": "request", "PYTHONUNBUFFERED": "", JOB_ID_VARIABLE: "id"},
            dict(found),
        )


class EnvironmentTests(SynchronousTestCase):
    def test_order(self) -> None:
        """The spec's variables replace the worker's; the job's tag replaces both."""
        spec = JobSpec("true", env={"B": "order"})
        self.assertEqual(
            {"A": "worker", "B": "order", JOB_ID_VARIABLE: "id"},
            environment({"A": "worker", "B": "worker", JOB_ID_VARIABLE: "outer"}, spec, "id", "/"),
        )

    def test_terminal(self) -> None:
        """A job with a terminal has TERM, by the request or xterm; the worker's own is of another terminal."""
        for env, expected in (({}, "xterm"), ({"TERM": "vt100"}, "vt100")):
            self.assertEqual(
                expected, environment({"TERM": "linux"}, JobSpec("a", tty=True, env=env), "id", "/")["TERM"]
            )
        self.assertEqual("linux", environment({"TERM": "linux"}, JobSpec("a"), "id", "/")["TERM"])

    def test_directory(self) -> None:
        """PWD is the job's directory, unless the spec sets it, or a symbolic link may make it wrong."""
        base = {"PWD": "/default"}
        for spec, expected in (
            (JobSpec("true"), "/default"),
            (JobSpec("true", directory="below"), "/default/below"),
            (JobSpec("true", directory=".."), None),
            (JobSpec("true", directory="..", env={"PWD": "/mine"}), "/mine"),
            (JobSpec("true", env={"PWD": "/mine"}), "/mine"),
        ):
            found = environment(base, spec, "id", os.path.join("/default", spec.directory))
            self.assertEqual(expected, found.get("PWD"), spec)
