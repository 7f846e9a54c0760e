"""The jobs that a command line names: by id, by the beginning of one, or by labels; and what is done for each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from txworker.cli import console
from txworker.cli.connect import with_tls
from txworker.cli.failures import UNREACHABLE, failure
from txworker.client import Client, JobState, WorkerError

_ID_LENGTH = 36
UNFINISHED = (JobState.PENDING, JobState.RUNNING, JobState.STOPPING)


def whole_id(client: Client, word: str) -> str:
    """
    The only job id that begins with this.

    Raises:
        WorkerError: there is no such job, or there are several.
    """
    if len(word) == _ID_LENGTH:
        return word
    with console.waiting_for(client.addr):
        return client.get(word).id


def unfinished(client: Client, options: argparse.Namespace) -> list[str]:
    """The ids of the unfinished jobs that have all labels of the options, oldest first."""
    with console.waiting_for(client.addr):
        return [record.id for record in client.jobs(UNFINISHED, options.label)][::-1]


def for_each(options: argparse.Namespace, words: Iterable[str], act: Callable[[str], object], status: str = "") -> int:
    """
    Do the same for each job. Errors are printed and do not stop the others; returns the highest exit status.

    status: the status line of a terminal while one takes long; by default that the worker is waited for.

    Raises:
        Failed: no worker answers.
    """
    highest = 0
    for word in words:
        try:
            with console.waiting(f"{status} {word}") if status else console.waiting_for(options.addr):
                act(word)
        except WorkerError as error:  # noqa: PERF203  # each has errors of its own
            failed = failure(error, options.addr, with_tls=with_tls(options))
            if failed.status == UNREACHABLE:
                raise failed from error
            console.print_error(str(failed))
            highest = max(highest, failed.status)
    return highest
