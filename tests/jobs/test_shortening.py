"""A shortened spec: short parts are whole, long parts have their beginning only."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import Job, JobSpec, Query
from txworker.jobs.shortening import MAX_PART_BYTES

LONG = "a 'b" + "é𝄞x" * 5_000
PARTS: dict[str, Any] = {
    "command": "sh -c 'b" + "é𝄞x" * 5_000 + "'",
    "path": LONG,
    "args": ("first", *["", LONG, "x"] * 8),
    "env": {"A": LONG},
    "labels": {f"label-{number}": str(number) * 200 for number in range(100)},
}


def size_bytes(spec: JobSpec) -> int:
    texts = [spec.command, spec.path, spec.directory, *spec.args, *spec.env, *spec.env.values()]
    return sum(len(text.encode()) for text in (*texts, *spec.labels, *spec.labels.values())) + len(spec.stdin)


class ShortenedTests(SynchronousTestCase):
    def test_short(self) -> None:
        """A spec without long parts stays as it is; only stdin is dropped, for which its digest remains."""
        spec = JobSpec("true", "x" * 1000, ("y" * 1000, ""), {"A": "z" * 3000}, labels={"l": "é" * 1000})
        self.assertIs(spec, spec.shortened())
        fed = JobSpec("true", "x", stdin=b"a secret")
        shortened = fed.shortened()
        self.assertEqual((b"", None, ""), (shortened.stdin, shortened.cut, shortened.difference(fed)))

    def test_each_part(self) -> None:
        """Each long part is cut to its beginning, and the spec tells whether a job's record shows that part."""
        for name, value in PARTS.items():
            spec = JobSpec(**{"command": "true", name: value})
            shortened = spec.shortened()
            self.assertLess(size_bytes(shortened), MAX_PART_BYTES + 10, name)
            assert shortened.cut is not None
            self.assertEqual(name != "directory", shortened.cut.in_record)
            self.assertEqual(name, shortened.difference(spec).partition(" ")[0])
            self.assertIs(shortened, shortened.shortened())
            if isinstance(value, str):
                self.assertTrue(value.startswith(getattr(shortened, name)))

    def test_command_for_people(self) -> None:
        """What is left of a command is one word for people: it may end within quotes, and is no longer split."""
        for command in ("bash -c '" + "x " * 5000 + "'", "echo " + "\\" * 5000, '"' + "a" * 5000 + '"'):
            spec = JobSpec(command, "path", ("a",))
            self.assertEqual(spec.argv, spec.shown_argv)
            shortened = spec.shortened()
            self.assertEqual((shortened.command, "path", "a"), shortened.shown_argv)

    def test_beginning_of_arguments(self) -> None:
        """Arguments are kept as far as there is room, and the beginning of the next one."""
        shortened = JobSpec("true", args=("a", "", "b" * 10_000, "c")).shortened()
        self.assertEqual(("a", ""), shortened.args[:2])
        self.assertEqual(3, len(shortened.args))
        self.assertIn(len(shortened.args[2]), range(MAX_PART_BYTES - 100, MAX_PART_BYTES))
        many = JobSpec("true", args=("",) * 200_000).shortened()
        self.assertEqual((MAX_PART_BYTES // 8, True), (len(many.args), many.cut is not None))

    def test_all_parts(self) -> None:
        """With every part long, a shortened spec is still small."""
        shortened = JobSpec(**PARTS, directory="/" * 4095, stdin=b"x" * 1_000_000, request_id="r" * 4096).shortened()
        self.assertLess(size_bytes(shortened), 6 * MAX_PART_BYTES + 100)
        self.assertLess(len(str(shortened.cut)), 5_000)

    def test_digests(self) -> None:
        """A shortened spec still recognizes every label and the whole path."""
        spec = JobSpec("true", path=PARTS["path"], labels=PARTS["labels"])
        shortened = spec.shortened()
        for one in (spec, shortened):
            self.assertTrue(all(one.has_label(name, value) for name, value in spec.labels.items()))
            self.assertFalse(one.has_label("label-99", "9"))
            self.assertFalse(one.has_label("label-9", "99" * 199))
            self.assertTrue(one.has_path(spec.path))
            self.assertFalse(one.has_path(shortened.path))
            self.assertFalse(one.has_path(""))
        job = Job("id", shortened, 1.0)
        self.assertTrue(Query(labels={"label-1": "1" * 200, "label-99": "99" * 200}).matches(job))
        self.assertFalse(Query(labels={"label-1": "1" * 200, "label-99": "other"}).matches(job))
