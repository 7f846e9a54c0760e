"""The words of the command line."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.parser import parse
from txworker.pb import worker_pb2 as pb


class ParserTests(SynchronousTestCase):
    def test_wrong_usage(self) -> None:
        """Each mistake ends with status 2 and a sentence that names the option and the word."""
        table = {
            "ps --state lame": "--state: 'lame' is no state of a job; these are: pending, running, stopping,",
            "ps --limit -1": "--limit: '-1' is no number",
            "ps --label x": "--label: 'x' is not NAME=VALUE",
            "run --max-memory 5X true": "--max-memory: '5X' is no number of bytes; 4096, 64K, 10M and 2G are",
            "run --max-memory 9999999999T true": "is no number of bytes",
            "run --max-output K true": "is no number of bytes",
            "run --max-open-files 2147483648 true": "is no number from 0 to 2147483647",
            "run --max-cpu soon true": "'soon' is no number of seconds",
            "run --max-cpu nan true": "'nan' is no number of seconds",
            "wait --timeout 0 x": "0 seconds are no time to wait",
            "wait": "the following arguments are required: JOB",
            "run": "there is nothing to run",
            "--tls-key x ps": "--tls-cert and --tls-key go together",
            "sing": "invalid choice: 'sing'",
        }
        for words, sentence in table.items():
            with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit) as caught:
                parse(words.split())
            self.assertEqual(2, caught.exception.code)
            self.assertIn(sentence, err.getvalue(), words)

    def test_sizes(self) -> None:
        """Bytes may be given in powers of 1024."""
        table = {"0": 0, "4096": 4096, "64K": 65_536, "10m": 10 * 2**20, "2G": 2**31, "1T": 2**40}
        for text, size in table.items():
            self.assertEqual(size, parse(["run", "--max-output", text, "true"]).max_output)

    def test_states(self) -> None:
        """Several states in one word, and in several."""
        self.assertEqual(
            [[pb.JOB_STATE_RUNNING, pb.JOB_STATE_TIMED_OUT], [pb.JOB_STATE_LOST]],
            parse(["ps", "--state", "running,timed_out", "--state", "lost"]).state,
        )

    def test_json(self) -> None:
        """--json may stand before the command or behind it, but behind an executable it is the job's."""
        for words in ("--json ps", "ps --json", "--json ps --json", "wait x --json", "drain --json"):
            self.assertTrue(parse(words.split()).json, words)
        options = parse(["run", "true", "--json"])
        self.assertEqual((False, ["true", "--json"]), (options.json, options.argv))

    def test_state_directory(self) -> None:
        """A worker that is named by its state directory is reached over the socket there."""
        self.assertEqual("unix:/var/lib/w/control.sock", parse(["drain", "--state-directory", "/var/lib/w"]).addr)
        here = parse(["drain", "--state-directory", "state"]).addr
        self.assertEqual(f"unix:{Path.cwd()}/state/control.sock", here)
        self.assertEqual("unix:/x", parse(["--addr", "unix:/x", "drain"]).addr)
