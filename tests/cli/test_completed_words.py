"""Which worker a line that is being typed means; tests/live/test_cli_completion.py has it in real shells."""

from __future__ import annotations

import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.cli import completed_words
from txworker.cli.completed_words import jobs, lines, words_of
from txworker.client import JobState
from txworker.client.values import record_of
from txworker.pb import worker_pb2 as pb

ID = "0192f0e0-0000-7000-8000-000000000001"


class LineTests(SynchronousTestCase):
    def asked(self, line: str) -> tuple[str, list[JobState]]:
        """The address and the states that are asked for; ("", []): nothing is asked."""
        made = mock.MagicMock()
        made.return_value.__enter__.return_value.jobs.return_value = iter([record_of(pb.Job(jobID=ID, command="a"))])
        with mock.patch.object(completed_words, "Client", made):
            found = jobs(line)
        if not made.called:
            self.assertEqual([], found)
            return "", []
        self.assertEqual([ID], [word for word, _ in found])
        client = made.return_value.__enter__.return_value
        return made.call_args.args[0], list(client.jobs.call_args.args[0])

    def test_worker(self) -> None:
        """The address may stand anywhere in the line, and else is the environment's."""
        with mock.patch.dict(os.environ, {"TXWORKER_ADDR": "other:1", "H": "host"}):
            for line, addr in (
                ("txworker query ", "other:1"),
                ("txworker --addr a:2 query 01", "a:2"),
                ("txworker query --json --tail 3 01 --addr=a:2 ", "a:2"),
                ("txworker query --addr $H:3 ", "host:3"),
                ("txworker drain --state-directory /s ", "unix:/s/control.sock"),
            ):
                self.assertEqual(addr, self.asked(line)[0], line)

    def test_unfinished(self) -> None:
        """Only unfinished jobs are offered to commands that are of no use to others."""
        self.assertEqual([JobState.PENDING, JobState.RUNNING, JobState.STOPPING], self.asked("txworker stop ")[1])
        self.assertEqual([], self.asked("txworker --deadline 3 inspect ")[1])

    def test_wrong(self) -> None:
        """A line that cannot be understood completes nothing."""
        for line in ("txworker --addr", "txworker --addr nothing query ", "txworker --worker gone query ", ""):
            with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": "/nowhere", "TXWORKER_ADDR": "no address"}):
                self.assertEqual(("", []), self.asked(line), line)

    def test_hostile(self) -> None:
        """Whatever a worker sends as an id is offered only if it looks like one."""
        hostile = ["$(touch x)", "`touch x`", f"{ID};x", f"{ID}\n", ID.upper(), "", "--addr=x", "a:b"]
        made = mock.MagicMock()
        records = [record_of(pb.Job(jobID=job_id, command="$(touch x)")) for job_id in [*hostile, ID]]
        made.return_value.__enter__.return_value.jobs.return_value = iter(records)
        with mock.patch.object(completed_words, "Client", made):
            self.assertEqual([ID], [word for word, _ in jobs("txworker query ")])

    def test_quotations(self) -> None:
        """A quotation may be open yet."""
        self.assertEqual(["txworker", "a b"], words_of("txworker 'a b' 'c"))

    def test_lines(self) -> None:
        """Each shell gets what its script takes."""
        words = [("a:b", "c d")]
        self.assertEqual(["a:b"], list(lines("bash", words)))
        self.assertEqual(["a:b\tc d"], list(lines("fish", words)))
        self.assertEqual(["a\\:b:c d"], list(lines("zsh", words)))
