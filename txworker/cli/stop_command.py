"""`txworker stop` and `txworker kill`. Both return the exit status."""

from __future__ import annotations

import argparse

from google.protobuf.message import Message

from txworker.cli import console
from txworker.cli.formatting import as_json
from txworker.cli.named_jobs import for_each, unfinished, whole_id
from txworker.client import Client
from txworker.pb import worker_pb2 as pb


def stop(client: Client, options: argparse.Namespace) -> int:
    """
    Stop the jobs that are named, or those with these labels, or all; with --wait, return when they are done.

    `kill` stops without a grace period; with --signal it sends that signal, and the jobs do not count as stopped. The
    ids of jobs that were not named are printed.
    """
    stopped: list[str] = []

    def stop_one(word: str) -> None:
        job_id, answer = _end(client, word, options)
        stopped.append(job_id)
        if options.json and not options.wait:
            console.print_lines(as_json(answer))
        elif not options.jobs and not options.json:
            console.print_lines(job_id)

    def wait_for_one(job_id: str) -> None:
        result = client.wait(job_id)
        if options.json:
            console.print_lines(as_json(result.message))

    status = for_each(options, options.jobs or unfinished(client, options), stop_one)
    return max(status, for_each(options, stopped, wait_for_one, "waiting for job") if options.wait else 0)


def _end(client: Client, word: str, options: argparse.Namespace) -> tuple[str, Message]:
    """Stop or signal one job: its id, and what the worker answers."""
    if options.signal is None:
        job_id = whole_id(client, word)
        client.stop(job_id, options.grace)
        return job_id, pb.StopJobRes()
    job_id = client.get(word).id  # waits for the worker, which signal() does not: it is sent once
    client.signal(job_id, options.signal)
    return job_id, pb.SignalJobRes()
