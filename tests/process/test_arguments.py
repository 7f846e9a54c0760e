"""The limit of arguments and environment is known before the exec, to the byte; checked with the kernel."""

from __future__ import annotations

import os
import resource
import subprocess
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import JOB_ID_VARIABLE, JobSpec
from txworker.jobs.errors import InvalidRequest
from txworker.process import arguments
from txworker.process.arguments import ArgumentLimit, limit_bytes

BASE = {"PATH": "/usr/bin:/bin", "KEPT": "é" * 100, "CHANGED": "x" * 300}
MIB = 2**20


class ArgumentRoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(arguments, "limit_bytes", lambda: 200_000)
        self.room = ArgumentLimit(BASE)

    def fits(self, spec: JobSpec) -> bool:
        try:
            self.room.check(spec)
        except InvalidRequest:
            return False
        return True

    def test_as_the_kernel_counts(self) -> None:
        """The longest spec that is accepted is the longest that the kernel executes, whichever part of it is long."""
        real = limit_bytes()
        if real > 3 * MIB:
            raise self.skipTest("so much room that it takes long to fill")
        self.patch(arguments, "limit_bytes", lambda: real)
        rest = ("x" * 100_000,) * (real // 100_000 - 1)

        def order(length: int, of_env: bool) -> JobSpec:
            size = length // 2
            some, more = "é" * (size // 2) + "y" * (size % 2), "z" * (length - size)
            if of_env:
                return JobSpec("/bin/true", args=rest, env={"A": some, "CHANGED": more})
            return JobSpec("/bin/true", "", (*rest, some, more))

        for of_env in (False, True):
            low, high = 1_000, 250_000
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.fits(order(middle, of_env)) else (low, middle)
            self.assertEqual((True, False), (executed(order(low, of_env)), executed(order(low + 1, of_env))))

    def test_what_is_too_long(self) -> None:
        """The error names the longer part and the limit."""
        table = [
            ("args", JobSpec("true", args=("x" * 120_000, "y" * 90_000), env={"A": "z" * 10_000})),
            ("args", JobSpec("true", args=("",) * 25_000)),
            ("args", JobSpec("true " + "x" * 120_000, "y" * 90_000)),
            ("env", JobSpec("true", args=("y" * 10_000,), env={"A": "x" * 120_000, "B": "y" * 90_000})),
            ("env", JobSpec("true", env={f"A{number}": "" for number in range(15_000)})),
        ]
        for field, spec in table:
            refusal = self.assertRaises(InvalidRequest, self.room.check, spec)
            self.assertEqual(field, refusal.field)
            self.assertIn("200000", str(refusal))
            self.assertLess(len(str(refusal)), 200)
        self.assertTrue(self.fits(JobSpec("true", args=("x" * 100_000, "y" * 90_000))))

    def test_inherited(self) -> None:
        """Inherited variables count, even for a short spec; a variable that the spec replaces counts once."""
        self.room = ArgumentLimit({**BASE, "MUCH": "x" * 100_000, "MORE": "y" * 99_900})
        self.assertFalse(self.fits(JobSpec("true")))
        self.assertTrue(self.fits(JobSpec("true", env={"MUCH": "x" * 50_000})))

    def test_room(self) -> None:
        """The limit is a quarter of the stack limit, within the kernel's bounds."""
        table = [(8 * MIB, 2 * MIB), (64 * 1024, 128 * 1024), (100 * MIB, 6 * MIB), (resource.RLIM_INFINITY, 6 * MIB)]
        for stack, room in table:
            with mock.patch("resource.getrlimit", return_value=(stack, resource.RLIM_INFINITY)):
                self.assertEqual(room, limit_bytes())


def executed(spec: JobSpec) -> bool:
    environment = {**BASE, **spec.env, JOB_ID_VARIABLE: "j" * 36}
    try:
        return subprocess.run(spec.argv, env=environment, check=False).returncode == os.EX_OK
    except OSError:
        return False
