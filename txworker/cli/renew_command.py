"""`txworker renew`: renews leases of jobs, once."""

from __future__ import annotations

import argparse

from txworker.cli import console
from txworker.cli.failures import REFUSED
from txworker.cli.formatting import as_json
from txworker.cli.named_jobs import for_each, whole_id
from txworker.client import Client
from txworker.pb import worker_pb2 as pb


def renew(client: Client, options: argparse.Namespace) -> int:
    """Count the leases of these jobs from now, in one call. A job that no longer runs is an error."""
    job_ids: list[str] = []
    status = for_each(options, options.jobs, lambda word: job_ids.append(whole_id(client, word)))
    with console.waiting_for(client.addr):
        gone = client.renew(job_ids) if job_ids else []
    if options.json:
        console.print_lines(as_json(pb.RenewLeasesRes(gone=gone)))
    else:
        for job_id in gone:
            console.print_error(f"job {job_id} is no longer running")
    return max(status, REFUSED) if gone else status
