"""What is held of an order: short ones as they are, of long parts the beginning, and never more than that."""

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


def held_bytes(spec: JobSpec) -> int:
    texts = [spec.command, spec.path, spec.directory, *spec.args, *spec.env, *spec.env.values()]
    return sum(len(text.encode()) for text in (*texts, *spec.labels, *spec.labels.values())) + len(spec.stdin)


class BriefTests(SynchronousTestCase):
    def test_short(self) -> None:
        """An order with nothing long in it is held as it is; only stdin is left out, for its digest is there."""
        spec = JobSpec("true", "x" * 1000, ("y" * 1000, ""), {"A": "z" * 3000}, labels={"l": "é" * 1000})
        self.assertIs(spec, spec.shortened())
        fed = JobSpec("true", "x", stdin=b"a secret")
        brief = fed.shortened()
        self.assertEqual((b"", None, ""), (brief.stdin, brief.cut, brief.difference(fed)))

    def test_each_part(self) -> None:
        """Each part by itself is cut to its beginning; whether a job's record shows less for it is known."""
        for name, value in PARTS.items():
            spec = JobSpec(**{"command": "true", name: value})
            brief = spec.shortened()
            self.assertLess(held_bytes(brief), MAX_PART_BYTES + 10, name)
            assert brief.cut is not None
            self.assertEqual(name != "env", brief.cut.in_record)
            self.assertEqual(name, brief.difference(spec).partition(" ")[0])
            self.assertIs(brief, brief.shortened())
            if isinstance(value, str):
                self.assertTrue(value.startswith(getattr(brief, name)))

    def test_beginning_of_arguments(self) -> None:
        """Of arguments those are held that there is room for, and the beginning of the next."""
        brief = JobSpec("true", args=("a", "", "b" * 10_000, "c")).shortened()
        self.assertEqual(("a", ""), brief.args[:2])
        self.assertEqual(3, len(brief.args))
        self.assertIn(len(brief.args[2]), range(MAX_PART_BYTES - 100, MAX_PART_BYTES))
        many = JobSpec("true", args=("",) * 200_000).shortened()
        self.assertEqual((MAX_PART_BYTES // 8, True), (len(many.args), many.cut is not None))

    def test_all_parts(self) -> None:
        """However long everything is, what is held of it is not."""
        brief = JobSpec(**PARTS, directory="/" * 4095, stdin=b"x" * 1_000_000, request_id="r" * 4096).shortened()
        self.assertLess(held_bytes(brief), 6 * MAX_PART_BYTES + 100)
        self.assertLess(len(str(brief.cut)), 5_000)

    def test_still_told_by(self) -> None:
        """A brief order still has every label and its path."""
        spec = JobSpec("true", path=PARTS["path"], labels=PARTS["labels"])
        brief = spec.shortened()
        for one in (spec, brief):
            self.assertTrue(all(one.has_label(name, value) for name, value in spec.labels.items()))
            self.assertFalse(one.has_label("label-99", "9"))
            self.assertFalse(one.has_label("label-9", "99" * 199))
            self.assertTrue(one.has_path(spec.path))
            self.assertFalse(one.has_path(brief.path))
            self.assertFalse(one.has_path(""))
        job = Job("id", brief, 1.0)
        self.assertTrue(Query(labels={"label-1": "1" * 200, "label-99": "99" * 200}).matches(job))
        self.assertFalse(Query(labels={"label-1": "1" * 200, "label-99": "other"}).matches(job))
