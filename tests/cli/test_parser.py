"""The command line's syntax."""

from __future__ import annotations

import contextlib
import io
import math
import os
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.parser import parse
from txworker.pb import worker_pb2 as pb


def refusal(words: list[str]) -> str:
    """The error for wrong usage, which exits with status 2."""
    with contextlib.redirect_stderr(io.StringIO()) as err, pytest.raises(SystemExit) as caught:
        parse(words)
    assert caught.value.code == 2
    return err.getvalue()


class ParserTests(SynchronousTestCase):
    def test_printable(self) -> None:
        """The error repeats wrong arguments escaped, because a script may have them from anywhere."""
        for words in (["ps", "\x1b[2J\n\u202e"], ["\x1b[2J"], ["ps", "--state", "\x9b"], ["--\x1b[2J", "ps"]):
            text = refusal(words)
            self.assertTrue(text.replace("\n", "").isprintable(), text)

    def test_wrong_usage(self) -> None:
        """Each mistake exits with status 2 and a sentence that names the option and the value."""
        table = {
            "ps --state lame": "--state: 'lame' is not a state of a job; the states are pending, running, stopping,",
            "ps --limit -1": "--limit: '-1' is not a number",
            "watch --label x": "--label: 'x' is not NAME=VALUE",
            "ps --label =x": "--label: '=x' is not NAME=VALUE",
            "ps --label a --label a=1": "--label: 'a' is given twice",
            "ps --since yesterday": "--since: 'yesterday' is neither a time such as 2026-01-31T12:00:00Z",
            "stop a --all": "by JOB, by --label or by --all, and by only one of these",
            "kill --label a=1 --all": "by JOB, by --label or by --all, and by only one of these",
            "kill": "jobs are named by JOB, by --label or by --all",
            "query --bogus x": "txworker query: error: unrecognized arguments: --bogus (txworker query --help shows",
            "drain --addr a:1": "only on its own socket: give --state-directory DIR, or --addr unix:PATH",
            "reload": "only on its own socket: give --state-directory DIR, or --addr unix:PATH",
            "run --max-memory 5X true": "--max-memory: '5X' is not a number of bytes such as 4096, 64K, 2G or 512MiB",
            "run --max-memory 9999999999T true": "is not a number of bytes",
            "run --max-output K true": "is not a number of bytes",
            "run --max-open-files 2147483648 true": "is not a number from 0 to 2147483647",
            "run --max-cpu soon true": "'soon' is neither a number of seconds from 0 to 1000000000",
            "run --timeout 1e30 true": "--timeout: '1e30' is neither a number of seconds from 0 to 1000000000",
            "--deadline 0 ps": "--deadline: must be more than 0 seconds",
            "ps --deadline 0": "--deadline: must be more than 0 seconds",
            "run --label a=1 --label a=2 true": "--label: 'a' is given twice, as '1' and as '2'",
            "start --env a=1 --env b=2 --env a= true": "--env: 'a' is given twice, as '1' and as ''",
            "ps --label a=1 --label a=2": "--label: 'a' is given twice",
            "stop": "jobs are named by JOB, by --label or by --all",
            "web --listen x": "--listen: must be HOST:PORT, not 'x'",
            "web --listen h:65536": "--listen: port must be from 0 to 65535 in 'h:65536'",
            "web h:1 --addr h:2": "give addresses of workers, or --addr, --worker or --all-workers",
            "web h": "must be HOST:PORT (or unix:PATH), not 'h'",
            "run --max-cpu nan true": "'nan' is neither a number of seconds",
            "wait --timeout 0 x": "must be more than 0 seconds",
            "wait": "the following arguments are required: JOB",
            "run": "there is nothing to run",
            "run -t --stdin - true": "--tty: the job's terminal is its input and output, so no --stdin",
            "run --separate-stderr --tty true": "so no --separate-stderr",
            "--tls-key x ps": "--tls-cert and --tls-key go together",
            "sing": "invalid choice: 'sing'",
        }
        for words, sentence in table.items():
            self.assertIn(sentence, refusal(words.split()), words)

    def test_no_json(self) -> None:
        """Commands that copy output have no --json, wherever it stands."""
        words = ("logs x --json", "--json run true", "run --json true", "--json stream x", "stream x --json")
        for line in words:
            name = next(word for word in line.split() if word in ("logs", "run", "stream"))
            self.assertIn(f"--json: `{name}` copies a job's output as it is", refusal(line.split()), line)

    def test_sizes(self) -> None:
        """Bytes accept suffixes for powers of 1024."""
        table = {"0": 0, "4096": 4096, "64K": 65_536, "10m": 10 * 2**20, "2G": 2**31, "1T": 2**40, "512MiB": 2**29}
        for text, size in table.items():
            self.assertEqual(size, parse(["run", "--max-output", text, "true"]).max_output)

    def test_signals(self) -> None:
        """A signal is a number, or a name with and without SIG, in capitals or not."""
        table = {"TERM": 15, "SIGTERM": 15, "term": 15, "9": 9, "64": 64, "rtmin": 34, "SIGRTMIN+2": 36, "RTMAX-1": 63}
        for text, number in table.items():
            self.assertEqual(number, parse(["kill", "-s", text, "x"]).signal, text)
        self.assertIsNone(parse(["kill", "x"]).signal)
        for text in ("0", "65", "-9", "TERMINATE", "SIG", "", "15.0", "RTMIN+99", "SIG9", "RTMIN-1", "TERM+1"):
            words = refusal(["kill", f"--signal={text}", "x"])
            self.assertIn(f"--signal/-s: {text!r} is not a signal such as TERM, SIGTERM or 15", words)

    def test_durations(self) -> None:
        """Seconds may be given as a duration with units."""
        for text, number in {"90": 90.0, "2.5": 2.5, "1h30m": 5400.0}.items():
            self.assertEqual(number, parse(["run", "--timeout", text, "true"]).timeout)
            self.assertEqual(number, parse(["ps", "--patience", text]).patience)
        self.assertEqual(math.inf, parse(["--patience", "inf", "ps"]).patience)

    def test_times(self) -> None:
        """A time is one of RFC 3339, or a duration before now."""
        options = parse(["ps", "--since", "2026-01-02T03:04:05+01:00", "--until", "2026-01-02T03:04:05Z"])
        self.assertEqual(3600, (options.until - options.since).total_seconds())
        ago = datetime.now(timezone.utc) - parse(["ps", "--since", "1h30m"]).since
        self.assertTrue(5340 < ago.total_seconds() <= 5400)

    def test_edges_of_time(self) -> None:
        """A time is refused if it is, in UTC, before the year 1 or after the year 9999."""
        for text in ("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"):
            for option in ("--since", "--until"):
                self.assertIn(f"{text!r} is neither a time such as", refusal(["ps", option, text]))
        for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
            self.assertEqual(timezone.utc, parse(["ps", "--since", text]).since.tzinfo)

    def test_one_line(self) -> None:
        """A mistake is told without the usage before it, and the sentence says where that is."""
        self.assertEqual(
            "txworker stop: error: argument --grace: expected one argument (txworker stop --help shows the usage)\n",
            refusal(["stop", "a", "--grace"]),
        )
        self.assertEqual(
            "txworker run: error: there is nothing to run: name an executable (txworker run --help shows the usage)\n",
            refusal(["run", "--"]),
        )

    def test_states(self) -> None:
        """States may be separated by commas, and the option repeated."""
        self.assertEqual(
            [[pb.JOB_STATE_RUNNING, pb.JOB_STATE_TIMED_OUT], [pb.JOB_STATE_LOST]],
            parse(["ps", "--state", "running,timed_out", "--state", "lost"]).state,
        )

    def test_json(self) -> None:
        """--json may stand before or after the command, but after an executable it belongs to the job."""
        for words in (
            "--json ps",
            "ps --json",
            "--json ps --json",
            "wait x --json",
            "drain --addr unix:/w --json",
            "start --json true",
        ):
            self.assertTrue(parse(words.split()).json, words)
        options = parse(["run", "true", "--json"])
        self.assertEqual((False, ["true", "--json"]), (options.json, options.argv))

    def test_state_directory(self) -> None:
        """--state-directory selects the socket in that directory."""
        self.assertEqual("unix:/var/lib/w/control.sock", parse(["drain", "--state-directory", "/var/lib/w"]).addr)
        here = parse(["drain", "--state-directory", "state"]).addr
        self.assertEqual(f"unix:{Path.cwd()}/state/control.sock", here)
        self.assertEqual("unix:/x", parse(["--addr", "unix:/x", "drain"]).addr)
        self.assertIn("longer than a socket's path may be", refusal(["drain", "--state-directory", "x" * 120]))

    def test_connection(self) -> None:
        """Connection options may stand before or after the command, up to an executable."""
        words = ["--addr", "h:1", "--tls-ca", "a", "--tls-cert", "c", "--tls-key", "k", "--deadline", "7"]
        for line in (
            [*words, "ps"],
            ["ps", *words],
            [*words[:4], "wait", "x", *words[4:]],
            ["run", *words, "true"],
            ["--addr", "other:2", "start", "--label", "a=1", *words, "true", "--addr", "x"],
        ):
            got = parse(line)
            self.assertEqual(
                ("h:1", "a", "c", "k", 7.0), (got.addr, got.tls_ca, got.tls_cert, got.tls_key, got.deadline)
            )
        self.assertEqual(["true", "--addr", "x"], parse(["run", "true", "--addr", "x"]).argv)

    def test_addresses(self) -> None:
        """An invalid address is refused before any connection is made."""
        for addr in ("foo", "foo:bar", ":31003", "http://127.0.0.1:1", "127.0.0.1", "", "unix:", "[::g]:1", "a b:1"):
            self.assertIn(f"--addr: must be HOST:PORT (or unix:PATH), not {addr!r}", refusal(["--addr", addr, "ps"]))
        for addr in ("127.0.0.1:96545", "h:0", "h:999999999"):
            self.assertIn(f"--addr: port must be from 1 to 65535 in {addr!r}", refusal(["ps", "--addr", addr]))
        for addr in ("127.0.0.1:30000", "[::1]:65535", "worker-1.example_net:00080", "unix:x", "unix:/a%41 b"):
            self.assertEqual(addr, parse(["--addr", addr, "ps"]).addr)

    def test_environment(self) -> None:
        """$TXWORKER_ADDR is the default address; empty it counts as unset, and an error names it."""
        with mock.patch.dict(os.environ, {"TXWORKER_ADDR": "h:7"}):
            self.assertEqual(("h:7", "h:8"), (parse(["ps"]).addr, parse(["ps", "--addr", "h:8"]).addr))
        with mock.patch.dict(os.environ, {"TXWORKER_ADDR": ""}):
            self.assertEqual("127.0.0.1:30000", parse(["ps"]).addr)
        with mock.patch.dict(os.environ, {"TXWORKER_ADDR": "foo"}):
            self.assertIn("error: $TXWORKER_ADDR: must be HOST:PORT (or unix:PATH), not 'foo'", refusal(["ps"]))
            for words in (["help", "run"], ["completion", "bash"]):  # they ask no worker
                self.assertEqual(words[0], parse(words).command_name)
            self.assertEqual("h:8", parse(["--addr", "h:8", "ps"]).addr)
            self.assertEqual("unix:/w/control.sock", parse(["drain", "--state-directory", "/w"]).addr)

    def test_tls_variables(self) -> None:
        """TLS files may come from the environment; options override them."""
        env = {"TXWORKER_TLS_CA": "ca", "TXWORKER_TLS_CERT": "c", "TXWORKER_TLS_KEY": "k"}
        with mock.patch.dict(os.environ, env):
            got = parse(["ps", "--tls-ca", "x"])
            self.assertEqual(("x", "c", "k"), (got.tls_ca, got.tls_cert, got.tls_key))
        with mock.patch.dict(os.environ, {"TXWORKER_TLS_KEY": "k"}):
            self.assertIn("--tls-cert and --tls-key go together", refusal(["ps"]))

    def test_workers(self) -> None:
        """--worker is the address and the TLS files of a named worker; only ps and watch take several."""
        home = Path(self.mktemp()).absolute()
        (home / "txworker").mkdir(parents=True)
        (home / "txworker" / "client.toml").write_text(
            'workers = {a = {addr = "a:1", tls_ca = "/x"}, b = {addr = "b:2"}}'
        )
        env = {"XDG_CONFIG_HOME": str(home), "TXWORKER_ADDR": "other:1", "TXWORKER_TLS_CA": "other"}
        with mock.patch.dict(os.environ, env):
            for words, found in (
                (["--worker", "a", "ps"], ("a:1", "/x")),
                (["run", "--worker", "b", "true"], ("b:2", None)),
            ):
                got = parse(words)
                self.assertEqual(found, (got.addr, got.tls_ca))
            for words in (["ps", "--all-workers"], ["watch", "--worker", "a,b"]):
                self.assertEqual(["a", "b"], [profile.name for profile in parse(words).profiles])
            table = {
                "run --worker a,b true": "--worker: `run` asks one worker, not 2",
                "ps --worker c": "has no worker 'c'; it has a, b",
                "ps --worker a --addr h:1": "--worker and --all-workers take the address and TLS files from",
                "ps --worker a,": "'a,' is not a name",
            }
            for line, sentence in table.items():
                self.assertIn(sentence, refusal(line.split()), line)

    def test_pairs(self) -> None:
        """Labels and variables are collected; repeating the same pair is allowed."""
        options = parse(["run", "--label", "a=1", "--label", "b=", "--label", "a=1", "--env", "A=x=y", "true"])
        self.assertEqual(({"a": "1", "b": ""}, {"A": "x=y"}), (options.label, options.env))
        self.assertEqual({}, parse(["run", "true"]).label)

    def test_version(self) -> None:
        """--version prints the package's version and exits with 0, also where the package is not installed."""
        table: list[tuple[Any, str]] = [
            (["1.2.3"], "txworker 1.2.3\n"),
            (PackageNotFoundError("txworker"), "txworker, version unknown: it is not installed\n"),
        ]
        for known, said in table:
            with (
                mock.patch("importlib.metadata.version", side_effect=known),
                contextlib.redirect_stdout(io.StringIO()) as out,
                self.assertRaises(SystemExit) as caught,
            ):
                parse(["--version"])
            self.assertEqual((0, said), (caught.exception.code, out.getvalue()))
