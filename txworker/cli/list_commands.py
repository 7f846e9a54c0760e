"""Commands for several jobs: ps, wait, watch. Each returns the exit status."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice

from txworker.base.printable import cut
from txworker.cli import console
from txworker.cli.colours import with_state
from txworker.cli.failures import REFUSED, TIMED_OUT, Failed
from txworker.cli.formatting import (
    MOST_CHARACTERS,
    NO_LABELS,
    Labels,
    as_json,
    exit_status,
    header,
    is_done,
    label_widths,
    row,
    seconds,
    state_begins,
    state_name,
)
from txworker.cli.named_jobs import UNFINISHED, whole_id
from txworker.client import Client, JobRecord, JobState
from txworker.client.requests import PAGE
from txworker.pb import worker_pb2 as pb

_MEASURED = PAGE
"""How many jobs decide the width of a label's column, so that a long list need not be held in memory."""

_WIDEST_LABEL = 24
"""The most characters of a label's column on a terminal."""


def ps(client: Client, options: argparse.Namespace) -> int:
    """List jobs, newest first."""
    jobs = listed(client, options)
    with console.waiting_for(options.addr):
        newest = list(islice(jobs, _MEASURED))  # no header when the worker does not answer
    labels = label_columns(options, newest)
    format_job = formatter(options, labels)
    if not (options.json or options.quiet):
        console.print_lines(header(line_width(), short_ids(options), labels))
    for job in chain(newest, jobs):
        console.print_lines(job.jobID if options.quiet else format_job(job))
    return 0


def label_columns(options: argparse.Namespace, jobs: Sequence[pb.Job]) -> Labels:
    """The labels that have a column of their own, as wide as these jobs' values need it."""
    most = None if line_width() is None else _WIDEST_LABEL
    return label_widths(dict.fromkeys(chain.from_iterable(options.label_column)), jobs, most)


def listed(client: Client, options: argparse.Namespace) -> Iterator[pb.Job]:
    """The jobs that the options select. A label with any value is filtered here, because the wire cannot ask for it."""
    states = [JobState(state) for states in options.state for state in states]
    labels = {name: value for name, value in options.label.items() if value is not None}
    names = options.label.keys() - labels.keys()
    limit = 0 if names else options.limit
    records = client.jobs(states, labels, limit=limit, since=options.since, until=options.until)
    jobs = (record.message for record in records if names <= record.labels.keys())
    return islice(jobs, options.limit or None)


def wait(client: Client, options: argparse.Namespace) -> int:
    """Wait until the jobs are done: the exit status of a single job; for several, 1 if any of them failed."""
    ids = {whole_id(client, word) for word in options.jobs}
    ended: dict[str, pb.Job] = {}
    try:
        with closing(client.watch(ids, timeout=options.timeout)) as records:
            while (job := _next_end(records, len(ids) - len(ended), len(ids))) is not None:
                ended[job.jobID] = job
                _print_end(options, job)
    except TimeoutError as error:
        missing = _missing(len(ids) - len(ended), len(ids))
        raise Failed(f"{missing} not done after {options.timeout:g} s", TIMED_OUT) from error
    statuses = [exit_status(job) for job in ended.values()]
    return statuses[0] if len(statuses) == 1 else REFUSED * any(statuses)


def _next_end(records: Iterator[JobRecord], left: int, wanted: int) -> pb.Job | None:
    """The next job that is done; None: there are no more."""
    with console.waiting(f"waiting for {left} of {wanted} jobs" if wanted > 1 else "waiting for the job"):
        return next((record.message for record in records if is_done(record.message)), None)


def watch(client: Client, options: argparse.Namespace) -> int:
    """Print the jobs, then every change, until interrupted or until all named jobs are done."""
    format_job = formatter(options)
    for job in changes(client, options):
        console.print_lines(format_job(job))
    return 0


def changes(client: Client, options: argparse.Namespace) -> Iterator[pb.Job]:
    """The jobs that the options select as they are now, then each change."""
    is_old = _done_before(client) if options.no_finished else lambda job: False
    for record in client.watch([whole_id(client, word) for word in options.jobs], options.label):
        if not is_old(record.message):
            yield record.message


def _done_before(client: Client) -> Callable[[pb.Job], bool]:
    """
    A predicate: the job was done before this was called.

    A watch does not tell its initial jobs from later changes, so this is computed from two lists: the job is not newer
    than the newest job was, and it was not among the unfinished ones.
    """
    newest = max((seconds(record.message.createdAt) for record in client.jobs(limit=1)), default=0.0)
    unfinished = {record.id for record in client.jobs(UNFINISHED)}
    return lambda job: is_done(job) and seconds(job.createdAt) <= newest and job.jobID not in unfinished


def formatter(options: argparse.Namespace, labels: Labels = NO_LABELS, reserved: int = 0) -> Callable[[pb.Job], str]:
    """Jobs as lines, with columns for these labels, for a terminal of which `reserved` characters are taken."""
    if options.json:
        return as_json
    width, short = line_width(reserved), short_ids(options)

    def format_job(job: pb.Job) -> str:
        line = row(job, time.time(), width, short, labels)
        return with_state(line, state_name(job), state_begins(short), options)

    return format_job


def line_width(reserved: int = 0) -> int | None:
    """The width of the terminal minus that many characters; None if stdout is not a terminal."""
    width = _width()
    return None if width is None else max(width - reserved, 1)


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def short_ids(options: argparse.Namespace) -> bool:
    """Ids are short on a terminal, where users read them; programs get whole ones."""
    return _width() is not None and not options.no_trunc


def _missing(count: int, wanted: int) -> str:
    if wanted == 1:
        return "the job was"
    return f"{count} of {wanted} jobs {'was' if count == 1 else 'were'}"


def _print_end(options: argparse.Namespace, job: pb.Job) -> None:
    if options.quiet:
        return
    console.print_lines(as_json(job) if options.json else _end(options, job))


def _end(options: argparse.Namespace, job: pb.Job) -> str:
    state = state_name(job)
    # the error text of a lost job begins with its state
    why = cut(job.errorText.removeprefix(f"{state}: "), MOST_CHARACTERS)
    line = f"{job.jobID} {state}: {why}" if why else f"{job.jobID} {state}"
    return with_state(line, state, len(job.jobID) + 1, options)
