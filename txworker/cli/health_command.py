"""`txworker health`: tells whether a worker takes new jobs, or only whether it answers; for container probes."""

from __future__ import annotations

import argparse
import json

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthStub

from txworker.cli import console
from txworker.cli.failures import REFUSED

_SERVING = pb.HealthCheckResponse.SERVING
_LIVE = "live"
"""The service name for whether the worker works at all; its answer needs the reactor, not only a gRPC thread."""


def health(channel: grpc.Channel, options: argparse.Namespace) -> int:
    """
    Print the status by which the worker answers the standard health check; 0 if it is SERVING. --live asks whether it
    works, not whether it takes jobs.

    Raises:
        RpcError: it does not answer.
    """
    request = pb.HealthCheckRequest(service=_LIVE if options.live else "")
    answer = HealthStub(channel).Check(request, timeout=options.deadline)
    status = pb.HealthCheckResponse.ServingStatus.Name(answer.status)
    console.print_lines(json.dumps({"status": status}) if options.json else status)
    return 0 if answer.status == _SERVING else REFUSED
