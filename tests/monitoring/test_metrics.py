"""What is counted and read, without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from queue import SimpleQueue
from typing import Any

from prometheus_client import generate_latest
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from txworker.daemon.web_door import build
from txworker.jobs import Job, JobSpec, JobState
from txworker.monitoring.metrics import Metrics, MetricsThreads
from txworker.monitoring.reading import Rising, ShimReadings, Sources
from txworker.ports import Observer
from txworker.worker.readiness import CAUSES

JOB = Job("an-id", JobSpec("true"), 0.0, started_at=100.0, finished_at=103.0, state=JobState.FAILED)


def sources(**changed: Any) -> Sources:
    """A source for every metric."""
    return replace(
        Sources(
            jobs=lambda: {"RUNNING": 2},
            output_bytes=lambda: 5,
            output_finished=lambda: 7,
            truncated=lambda: 1,
            max_running=lambda: 0,
            streams=lambda: 3,
            max_streams=256,
            threads=lambda: 8,
            calls_waiting=lambda: 0,
            reasons=lambda: {},
            causes=CAUSES,
            shim=ShimReadings(lambda: True, lambda: 2, True),
            registered=lambda: True,
            certificate_expiry=lambda: 1.8e9,
            name="a-worker",
            instance=3,
            build=build(),
        ),
        **changed,
    )


def whole() -> Metrics:
    """With every metric."""
    metrics = Metrics()
    metrics.read(sources())
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of a sample; None: there is none."""
    return metrics.registry.get_sample_value(name, labels)


class CountingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.observer = self.metrics.observer

    def value(self, name: str, **labels: str) -> float | None:
        return value(self.metrics, name, **labels)

    def test_jobs(self) -> None:
        """Starts, refusals, ends and losses are counted, each by what an operator asks for."""
        self.observer.started(0.002)
        self.observer.refused("MAX_RUNNING")
        self.observer.taken_over()
        self.observer.ended(replace(JOB, leftovers_ended=3), 10)
        self.observer.ended(replace(JOB, state=JobState.LOST), 1)
        self.observer.output_lost("disk", 4096)
        self.assertEqual(1, self.value("txworker_jobs_started_total"))
        self.assertEqual(1, self.value("txworker_job_launch_seconds_bucket", le="0.0025"))
        self.assertEqual(0, self.value("txworker_job_launch_seconds_bucket", le="0.001"))
        self.assertEqual(1, self.value("txworker_jobs_refused_total", reason="MAX_RUNNING"))
        self.assertEqual(1, self.value("txworker_jobs_taken_over_total"))
        self.assertEqual(1, self.value("txworker_jobs_ended_total", state="FAILED"))
        self.assertEqual(1, self.value("txworker_jobs_ended_total", state="LOST"))
        self.assertEqual((1, 3.0), tuple(self.value(f"txworker_job_duration_seconds_{of}") for of in ("count", "sum")))
        self.assertEqual(3, self.value("txworker_leftovers_ended_total"))
        self.assertEqual(4096, self.value("txworker_output_lost_bytes_total", cause="disk"))
        self.assertEqual(11, self.observer.output_finished)

    def test_calls(self) -> None:
        """Calls are counted by method and code, and streams while they are open."""
        self.observer.call_answered("StartJob", "OK", 0.001, 0.004)
        self.observer.stream_opened("WatchJobs")
        self.observer.stream_opened("WatchJobs")
        self.observer.stream_closed("WatchJobs")
        self.assertEqual(1, self.value("txworker_grpc_calls_total", method="StartJob", code="OK"))
        self.assertEqual(0.004, self.value("txworker_grpc_call_seconds_sum", method="StartJob"))
        self.assertEqual(0.001, self.value("txworker_grpc_call_wait_seconds_sum"))
        self.assertEqual(1, self.value("txworker_grpc_streams_open", method="WatchJobs"))

    def test_reloads(self) -> None:
        """A reload that fails shows until one succeeds; the time is that of the configuration in force."""
        now = [100.0]
        metrics = Metrics(lambda: now[0])
        name = "txworker_config_last_reload_success"
        for succeeded in (False, True, False):
            now[0] += 10
            metrics.observer.reloaded(succeeded)
            self.assertEqual(succeeded, value(metrics, f"{name}ful"))
            self.assertEqual(100 if now[0] == 110 else 120, value(metrics, f"{name}_timestamp_seconds"))

    def test_every_fact(self) -> None:
        """No fact that the worker tells is lost: the observer has a method of its own for each, but for traces' own."""
        facts = {name for name in vars(Observer) if not name.startswith("_")} - {"not_started"}
        self.assertEqual(facts, facts & set(vars(type(self.observer))))

    def test_no_text_of_users(self) -> None:
        """No label has a job's id, a path or a command, whatever was told."""
        self.observer.ended(JOB, 0)
        self.metrics.read(sources(reasons=lambda: {"store": "the disk under /secret/path is full"}))
        text = generate_latest(self.metrics.registry).decode()
        self.assertNotIn("an-id", text)
        self.assertNotIn("secret", text)


class ReadingTests(SynchronousTestCase):
    def test_readings(self) -> None:
        """What is read is read at each scrape."""
        metrics = Metrics()
        jobs = count(1)
        metrics.read(sources(jobs=lambda: {"RUNNING": next(jobs)}, reasons=lambda: {"store": "the disk is full"}))
        self.assertEqual(1, value(metrics, "txworker_jobs", state="RUNNING"))
        self.assertEqual(2, value(metrics, "txworker_jobs", state="RUNNING"))
        self.assertEqual(0, value(metrics, "txworker_jobs", state="PENDING"))
        self.assertEqual(12, value(metrics, "txworker_output_bytes_total"))
        self.assertEqual(0, value(metrics, "txworker_ready"))
        self.assertEqual(1, value(metrics, "txworker_not_ready", cause="store"))
        self.assertEqual(0, value(metrics, "txworker_not_ready", cause="stopping"))

    def test_some_names(self) -> None:
        """Every metric is found by a scrape of its name alone, which reads no other one."""
        metrics = Metrics()
        metrics.read(sources())
        metrics.observer.refused("MAX_RUNNING")
        metrics.observer.call_answered("StartJob", "OK", 0.0, 0.0)
        metrics.observer.stream_opened("WatchJobs")
        for name, kind, *_ in metrics.instruments.described:
            sample = f"{name}_count" if kind == "histogram" else name
            text = generate_latest(metrics.registry.restricted_registry([sample])).decode()
            self.assertRegex(text, rf"(?m)^{sample}[ {{]")
        text = generate_latest(metrics.registry.restricted_registry(["process_open_fds"])).decode()
        self.assertRegex(text, r"(?m)^process_open_fds ")

    def test_what_is_not_there(self) -> None:
        """A worker without shim, scheduler or TLS has no metric that would tell of them."""
        metrics = Metrics()
        metrics.read(sources(shim=None, registered=None, certificate_expiry=None))
        for name in ("shim_alive", "scheduler_registered", "tls_certificate_expiry_timestamp_seconds"):
            self.assertIsNone(value(metrics, f"txworker_{name}"))

    def test_certificate_that_cannot_be_told(self) -> None:
        """A certificate whose end is unknown has no sample, rather than one that alerts."""
        metrics = Metrics()
        metrics.read(sources(certificate_expiry=lambda: None))
        self.assertIsNone(value(metrics, "txworker_tls_certificate_expiry_timestamp_seconds"))
        self.assertIsNotNone(generate_latest(metrics.registry))

    def test_rising(self) -> None:
        """A counter of output never goes down, while a job's bytes move from one number to the other."""
        numbers = iter([(0, 10), (0, 0), (10, 0), (10, 5)])
        finished = unfinished = 0

        def read_finished() -> int:
            nonlocal finished, unfinished
            finished, unfinished = next(numbers)
            return finished

        rising = Rising(read_finished, lambda: unfinished)
        self.assertEqual([10, 10, 10, 15], [rising() for _ in range(4)])


class StandingReactor:
    """A reactor that turns only when it is told to."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        """Twisted: call it in the reactor thread."""
        self._calls.put(lambda: call(*args))

    def turn(self) -> None:
        """Make the next call; waits for it."""
        self._calls.get(timeout=60)()


class MetricsThreadsTests(SynchronousTestCase):
    def test_stop_during_a_scrape(self) -> None:
        """A scrape under way waits for the reactor, so stopping does not wait there; it fires with the answer given."""
        reactor: Any = StandingReactor()
        begun = threading.Event()
        metrics = Metrics()
        metrics.registry.register(Beginning(begun))
        threads = MetricsThreads(reactor, metrics.registry)
        threads.startService()
        transport = StringTransport()
        protocol: Any = Site(threads.page, reactor=MemoryReactorClock()).buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(begun.wait(60))
        stopped = threads.stopService()
        self.assertNoResult(stopped)
        while not stopped.called:
            reactor.turn()
        self.assertIn(b"200 OK", transport.value())

    def test_never_started(self) -> None:
        """What was not started ends at once."""
        reactor: Any = StandingReactor()
        self.successResultOf(MetricsThreads(reactor, Metrics().registry).stopService())


class Beginning:
    """Tells that a scrape has begun."""

    def __init__(self, begun: threading.Event) -> None:
        self._begun = begun

    def describe(self) -> list[Any]:
        """Prometheus: what collect() has, asked for when it is registered."""
        return []

    def collect(self) -> list[Any]:
        """Prometheus: the metrics."""
        self._begun.set()
        return []
