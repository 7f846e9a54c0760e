"""Every key of a configuration file arrives, and every mistake in one has its error message."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from pathlib import Path
from unittest import mock

import tomli
from twisted.trial.unittest import SynchronousTestCase

from tests.config.mistakes import MISTAKES
from tests.config.pem_files import write_pems
from txworker.config import (
    Config,
    ConfigError,
    GrpcServer,
    Jobs,
    Log,
    Scheduler,
    Tracing,
    Web,
    Worker,
    load,
    load_again,
)
from txworker.config.checks import check_log
from txworker.config.readers import READERS

EXAMPLE = Path(__file__).parents[2] / "worker.toml"

# The table of spec/worker.md, word for word; server.pem and server.key are not there.
EXISTING = """
[grpc_server]
addr = "127.0.0.1:30000"
use_tls = false
crt_file = "server.pem"
key_file = "server.key"

[scheduler]
addr = "127.0.0.1:50000"
"""

SECTIONS = (GrpcServer, Scheduler, Jobs, Worker, Log, Web, Tracing)


class ConfigTestCase(SynchronousTestCase):
    """Two new directories: `directory` for the configuration file, and `cwd`, the current directory."""

    def setUp(self) -> None:
        top = tempfile.TemporaryDirectory()
        self.addCleanup(top.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        self.directory, self.cwd = Path(top.name).resolve() / "directory", Path(top.name).resolve() / "cwd"
        self.directory.mkdir()
        self.cwd.mkdir()
        os.chdir(self.cwd)

    def load(self, text: str) -> Config:
        path = self.directory / "worker.toml"
        path.write_text(text, encoding="utf-8")
        return load(path)

    def message(self, path: Path | None) -> str:
        return str(self.assertRaises(ConfigError, load, path))


class MistakeTests(ConfigTestCase):
    def test_each_has_its_message(self) -> None:
        """Each mistake is one line: the file, the dotted key, what is wrong. Loading creates nothing."""
        write_pems(self.directory)
        found = {text: self.message_for(text) for text in MISTAKES}
        self.assertEqual({text: matching(found[text], wanted) for text, wanted in MISTAKES.items()}, found)
        self.assertEqual([], [message for message in found.values() if "\n" in message])
        self.assertFalse((self.directory / "output").exists())

    def message_for(self, text: str) -> str:
        try:
            self.load(text)
        except ConfigError as error:
            return str(error).removeprefix(f"{self.directory}/worker.toml: ").replace(str(self.directory), "DIR")
        return "loads"

    def test_fields(self) -> None:
        """The error has key and problem as fields; its text begins with the file name that was given."""
        Path("worker.toml").write_text("jobs.max_running = -1")
        error = self.assertRaises(ConfigError, load, Path("worker.toml"))
        self.assertEqual(("jobs.max_running", "must be from 0 to 1000000, not -1"), (error.key, error.problem))
        self.assertEqual("worker.toml: jobs.max_running: must be from 0 to 1000000, not -1", str(error))
        self.assertEqual(str(error), self.message(None))

    def test_no_file_to_name(self) -> None:
        """Without a configuration file the message names none."""
        Path("output").touch()
        self.assertEqual(f"jobs.output_directory: {self.cwd}/output is not a directory", self.message(None))

    def test_dangling_output_directory(self) -> None:
        """A dangling symbolic link cannot become the output directory."""
        Path("output").symlink_to("nowhere")
        self.assertEqual(f"jobs.output_directory: {self.cwd}/output is not a directory", self.message(None))

    def test_pipe(self) -> None:
        """A pipe is read at the start, and not again by a reload, to which it would be empty, or not answer."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        path = Path(f"/proc/self/fd/{reading}")
        os.write(writing, b"jobs.max_running = 7\njobs.state_directory = '/s'\njobs.output_directory = '/o'")
        os.close(writing)
        self.assertEqual(7, load(path).jobs.max_running)
        error = self.assertRaises(ConfigError, load_again, path)
        self.assertEqual(f"{path}: is a pipe, which cannot be read again", str(error))

    def test_directory_closed_meanwhile(self) -> None:
        """A reload of a file whose directory the worker cannot search any more is refused with a sentence."""
        path = Path("closed") / "worker.toml"
        with (
            mock.patch.object(os, "stat", side_effect=PermissionError(13, "Permission denied")),
            mock.patch.object(Path, "read_bytes", side_effect=PermissionError(13, "Permission denied")),
        ):
            error = self.assertRaises(ConfigError, load_again, path)
        self.assertEqual("closed/worker.toml: cannot be read: Permission denied", str(error))

    def test_files_that_cannot_be_read(self) -> None:
        """A configuration file that is named must exist, be a file, and hold UTF-8."""
        Path("latin.toml").write_bytes(b"# caf\xe9")
        self.assertEqual("none.toml: no such file", self.message(Path("none.toml")))
        self.assertEqual(f"{self.directory}: cannot be read: Is a directory", self.message(self.directory))
        self.assertEqual("latin.toml: not UTF-8 (at byte 5)", self.message(Path("latin.toml")))

    def test_current_file_is_never_passed_over(self) -> None:
        """A worker.toml in the current directory that cannot be read is an error; the defaults do not replace it."""
        Path("worker.toml").symlink_to("nowhere")
        self.assertEqual("worker.toml: no such file", self.message(None))


class LogTests(ConfigTestCase):
    def test_no_journal(self) -> None:
        """A journal that is not there is told by --check already."""
        check_log(Log(format="journald"), str(self.directory))
        error = self.assertRaises(ConfigError, check_log, Log(format="journald"), "/no/journal")
        self.assertEqual("log.format: there is no journal on this machine (/no/journal)", str(error))
        check_log(Log(), "/no/journal")


class LoadTests(ConfigTestCase):
    def test_defaults(self) -> None:
        """Without a file the worker serves at 127.0.0.1:30000, has no scheduler, and works in the current directory."""
        server = GrpcServer("127.0.0.1", 30000, False, None, None, None, 256)
        jobs = Jobs(self.cwd, self.cwd / "output", self.cwd / "state")
        self.assertEqual(Config(server, Scheduler("", "", False, None), jobs, None), load())

    def test_existing_file(self) -> None:
        """A file of the existing worker loads unchanged, even when the PEM files that it names do not exist."""
        loaded = self.load(EXISTING)
        server = GrpcServer(crt_file=self.directory / "server.pem", key_file=self.directory / "server.key")
        jobs = Jobs(self.cwd, self.directory / "output", self.directory / "state")
        self.assertEqual(
            Config(server, Scheduler("127.0.0.1:50000"), jobs, self.directory / "worker.toml"),
            loaded,
        )

    def test_every_key(self) -> None:
        """Every key sets its field; relative file names start from the directory of the configuration file."""
        write_pems(self.directory)
        loaded = self.load(
            "[grpc_server]\naddr = '[::1]:0'\nuse_tls = true\ncrt_file = 'a.crt'\nkey_file = 'a.key'\n"
            "client_ca_file = 'b.crt'\nmax_streams = 10000\n"
            "[scheduler]\naddr = 's.example:65535'\nadvertise_addr = 'w:1'\nuse_tls = true\nca_file = 'b.crt'\n"
            "[jobs]\ndirectory = '.'\noutput_directory = '/deep/down/~'\nstop_grace_seconds = 3\nmax_running = 7\n"
            "state_directory = 's'\ndurability = 'machine'\nkeep_days = 1\nkeep_jobs = 2\nkeep_output_bytes = 3\n"
            "[web]\naddr = '[::1]:30001'\npage = true\n"
        )
        crt, key, ca = (self.directory / name for name in ("a.crt", "a.key", "b.crt"))
        self.assertEqual(GrpcServer("::1", 0, True, crt, key, ca, 10000), loaded.grpc_server)
        self.assertEqual(Scheduler("s.example:65535", "w:1", True, ca), loaded.scheduler)
        self.assertEqual(
            Jobs(self.directory, Path("/deep/down/~"), self.directory / "s", "machine", 1.0, 2, 3, 3.0, 7), loaded.jobs
        )
        self.assertIsInstance(loaded.jobs.stop_grace_seconds, float)
        self.assertEqual(Web("::1", 30001, True), loaded.web)

    def test_several_schedulers(self) -> None:
        """addrs are tried in their order; a single addr is the same as a list of one."""
        self.assertEqual(("a:1", "[::1]:2"), self.load("scheduler.addrs = ['a:1', '[::1]:2']").scheduler.all_addrs)
        self.assertEqual(("a:1",), self.load("scheduler.addr = 'a:1'").scheduler.all_addrs)
        self.assertEqual((), self.load("scheduler.addrs = []").scheduler.all_addrs)

    def test_lost_scheduler(self) -> None:
        """What follows when the scheduler is lost, and the worker's name."""
        text = "[scheduler]\naddr = 'a:1'\nwhen_lost = 'drain'\nlost_after_seconds = '5m'\n[worker]\nname = 'w-1'\n"
        loaded = self.load(text)
        self.assertEqual(("drain", 300.0), (loaded.scheduler.when_lost, loaded.scheduler.lost_after_seconds))
        self.assertEqual("w-1", loaded.worker.name)

    def test_quantities(self) -> None:
        """Times and sizes may be strings with units, as on the command line."""
        loaded = self.load(
            "[jobs]\nstop_grace_seconds = '1m30s'\nkeep_days = '36h'\nkeep_output_bytes = '2G'\n"
            "limits = {max_memory_bytes = '512MiB', max_cpu_seconds = '1h'}\n"
        )
        self.assertEqual(
            (90.0, 1.5, 2**31), (loaded.jobs.stop_grace_seconds, loaded.jobs.keep_days, loaded.jobs.keep_output_bytes)
        )
        self.assertEqual((2**29, 3600.0), (loaded.jobs.limits.max_memory_bytes, loaded.jobs.limits.max_cpu_seconds))

    def test_environment(self) -> None:
        """Names and values of jobs' variables arrive as they are, the empty value, too."""
        loaded = self.load('[jobs.environment]\nPYTHONUNBUFFERED = ""\n"odd name" = "ä b"')
        self.assertEqual({"PYTHONUNBUFFERED": "", "odd name": "ä b"}, loaded.jobs.environment)

    def test_state_beside_output(self) -> None:
        """The state directory is beside the output directory by default."""
        self.assertEqual(Path("/deep/state"), self.load("jobs.output_directory = '/deep/out'").jobs.state_directory)

    def test_current_file(self) -> None:
        """worker.toml in the current directory is read by default, and every path in the result is absolute."""
        Path("worker.toml").write_text("[grpc_server]\ncrt_file = 'x.pem'\n[jobs]\nmax_running = 3", encoding="utf-8")
        loaded = load()
        self.assertEqual(3, loaded.jobs.max_running)
        self.assertEqual(self.cwd / "worker.toml", loaded.source)
        self.assertEqual(self.cwd / "x.pem", loaded.grpc_server.crt_file)

    def test_empty_strings_are_absent(self) -> None:
        """An empty file name or address means the default, as if the key were absent."""
        text = "grpc_server = {crt_file = '', key_file = '', client_ca_file = ''}\n"
        text += "scheduler = {addr = '', advertise_addr = '', ca_file = ''}\n"
        text += "jobs = {directory = '', output_directory = ''}\nweb = {addr = ''}"
        self.assertEqual(self.load(""), self.load(text))

    def test_byte_order_mark(self) -> None:
        """A byte order mark, which some editors write, is accepted."""
        self.assertEqual(3, self.load("\ufeffjobs.max_running = 3").jobs.max_running)

    def test_web_needs_its_library(self) -> None:
        """Without prometheus-client a worker that is to serve metrics does not load; another one needs none."""
        with mock.patch("importlib.util.find_spec", return_value=None):
            self.load("")
            error = self.assertRaises(ConfigError, self.load, "web.addr = '127.0.0.1:0'")
        self.assertIn("needs prometheus-client, which is not installed: pip install 'txworker[web]'", str(error))

    def test_tracing_needs_its_libraries(self) -> None:
        """Without one of OpenTelemetry's packages a worker that is to be traced does not load; it is not imported."""
        text = 'tracing.endpoint = "http://127.0.0.1:4318"'
        self.load(text)
        for found in ({"return_value": None}, {"side_effect": ModuleNotFoundError("no opentelemetry.exporter")}):
            with mock.patch("importlib.util.find_spec", **found):
                error = self.assertRaises(ConfigError, self.load, text)
            self.assertIn("tracing.endpoint: needs OpenTelemetry, which is not installed: pip install", str(error))

    def test_addr(self) -> None:
        """addr is an address that can be dialled: IPv6 is in brackets."""
        self.assertEqual("[::1]:5", GrpcServer("::1", 5).addr)
        self.assertEqual("localhost:5", GrpcServer("localhost", 5).addr)


class ExampleTests(ConfigTestCase):
    def test_says_the_defaults(self) -> None:
        """The worker.toml that ships loads from any directory and equals the defaults."""
        loaded = self.load(EXAMPLE.read_text(encoding="utf-8"))
        self.assertEqual(self.load(""), loaded)
        self.assertEqual(load(EXAMPLE).grpc_server, loaded.grpc_server)

    def test_shows_every_key(self) -> None:
        """The worker.toml that ships shows every key, and its commented-out keys load, too."""
        text = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        shown = {section: set(keys) for section, keys in tomli.loads(text).items()}
        self.assertEqual({section: set(keys) for section, keys in READERS.items()}, shown)

    def test_every_field_has_a_key(self) -> None:
        """Fields and keys correspond: each field can be set, each key has a field."""
        fields = [{field.name for field in dataclasses.fields(section)} for section in SECTIONS]
        for number in (0, 5):
            fields[number] = fields[number] - {"host", "port"} | {"addr"}
        self.assertEqual(fields, [set(keys) for keys in READERS.values()])
        self.assertEqual({*READERS, "source"}, {field.name for field in dataclasses.fields(Config)})


def matching(found: str, wanted: str) -> str:
    """The found message where the wanted one ends in `...` (a library's text) and matches up to it; else the wanted."""
    return found if wanted.endswith(": ...") and found.startswith(wanted[:-3]) else wanted
