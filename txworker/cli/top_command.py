"""`txworker top`: what running jobs use, once or on a screen that is refreshed. Returns the exit status."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat

from txworker.cli import console, usage_table
from txworker.cli.colours import is_terminal
from txworker.cli.failures import Failed
from txworker.cli.list_commands import label_columns, line_width, short_ids
from txworker.cli.live_usage import SORT_KEYS, JobUse, Sample, sorted_by, uses
from txworker.cli.samplers import Heard, Samplers
from txworker.cli.usage_screen import Screen, screen, typed_keys
from txworker.cli.usage_table import View

_FIRST_SECONDS = 0.5
"""The pause between the first two samples for a screen, which shows no CPU before the second."""

_KEYS = {word[0]: word for word in SORT_KEYS}
_HELP = f"sort by: {' '.join(f'[{word[0]}]{word[1:]}' for word in SORT_KEYS)}   [q]uit"


def top(options: argparse.Namespace) -> int:
    """
    Show the running jobs of each worker and what they use, with all of their processes: the most CPU first.

    CPU is measured between two samples, `--interval` apart. Ends when all jobs that were named are done.
    """
    console.check_open()
    if options.once or options.json or not is_terminal(sys.stdout):
        return _once(options)
    return _live(options)


def _once(options: argparse.Namespace) -> int:
    gathered = _Gathered(options)
    with (
        Samplers(options, lambda: (0.0, options.interval)) as samplers,
        console.waiting(f"measuring for {options.interval:g} s"),
    ):
        while samplers.left:
            select.select([samplers], [], [])
            for heard in samplers.heard():
                if sentence := gathered.take(heard):
                    console.print_error(sentence)
    if gathered.answered:
        _print(options, gathered)
    return gathered.status


def _print(options: argparse.Namespace, gathered: _Gathered) -> None:
    found = gathered.uses()
    if options.json:
        for use in found:
            named = {"worker": use.worker} if options.profiles else {}
            console.print_lines(json.dumps({**named, **usage_table.as_values(use)}))
        return
    console.print_lines(*usage_table.lines(gathered.view(found), line_width()))


def _live(options: argparse.Namespace) -> int:
    gathered = _Gathered(options)
    first = min(_FIRST_SECONDS, options.interval)
    with Samplers(options, lambda: chain((0.0, first), repeat(options.interval))) as samplers:
        while _on_screen(options, samplers, gathered):
            signal.raise_signal(signal.SIGTSTP)  # returns when a shell continues the program
    for sentence in gathered.failures:
        console.print_error(sentence)
    return gathered.status


def _on_screen(options: argparse.Namespace, samplers: Samplers, gathered: _Gathered) -> bool:
    """Show samples on a screen; returns with the terminal restored. True: the program is to be suspended."""
    suspending = threading.Event()

    def suspend() -> None:
        suspending.set()
        samplers.wake()

    with screen(options, samplers.wake, suspend) as shown, typed_keys() as keys:
        _refresh(samplers, gathered, shown, keys, suspending)
    return suspending.is_set()


def _refresh(
    samplers: Samplers, gathered: _Gathered, shown: Screen, keys: int | None, suspending: threading.Event
) -> None:
    """Show samples as they come, until q or Ctrl-Z is typed or no worker is left."""
    shown.show(gathered.screen_view())
    while samplers.left and not suspending.is_set():
        waited_for: list[Samplers | int] = [samplers] if keys is None else [samplers, keys]
        ready, _, _ = select.select(waited_for, [], [])
        if keys is not None and keys in ready:
            typed = os.read(keys, 1).decode(errors="replace")
            if typed == "q":
                return
            keys = keys if typed else None
            gathered.sort = _KEYS.get(typed, gathered.sort)
        for heard in samplers.heard():
            gathered.take(heard)
        shown.show(gathered.screen_view())


class _Gathered:
    """
    What is known of the workers. status: the highest one of an error; failures: of workers that are given up; sort: the
    key by which jobs are sorted.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.status = 0
        self.answered = False
        self.failures: list[str] = []
        self.sort: str = options.sort
        self._options = options
        self._several = [profile.name for profile in options.profiles] if len(options.profiles) > 1 else []
        self._samples: dict[str, tuple[Sample | None, Sample]] = {}
        self._notes: dict[str, str] = {}

    def take(self, heard: Heard) -> str:
        """A sentence about the news, if there is something to say; otherwise ""."""
        prefix = f"{heard.worker}: " if self._options.profiles else ""
        match heard.what:
            case Sample() as sample:
                self.answered = True
                _, before = self._samples.get(heard.worker, (None, None))
                self._samples[heard.worker] = (before, sample)
                self._notes.pop(heard.worker, None)
            case Failed() as failed:
                self.status = max(self.status, failed.status)
                self._samples.pop(heard.worker, None)
                self.failures.append(f"{prefix}{failed}")
                return self.failures[-1]
            case str() as sentence:
                self._notes[heard.worker] = f"{prefix}{sentence}"
                return self._notes[heard.worker]
        return ""

    def notes(self) -> list[str]:
        """The sentences about the workers that are true now."""
        return [*self.failures, *self._notes.values()]

    def uses(self) -> list[JobUse]:
        """All jobs of all workers."""
        now = time.time()
        return sorted_by(self.sort, chain.from_iterable(self._uses(now)))

    def view(self, found: list[JobUse], heading: str = "", notes: list[str] | None = None) -> View:
        """The table of all jobs."""
        labels = label_columns(self._options, [use.job for use in found])
        short = short_ids(self._options)
        return usage_table.view(found, self._several, short, labels, heading, notes or [])

    def screen_view(self) -> View:
        """The same with a heading and what there is to say about workers and keys."""
        found = self.uses()
        heading = f"{usage_table.summary(found)}; by {self.sort}" if self.answered else "waiting for an answer"
        return self.view(found, heading, [*self.notes(), _HELP])

    def _uses(self, now: float) -> Iterator[list[JobUse]]:
        for worker, (before, after) in self._samples.items():
            yield uses(worker, before, after, now)
