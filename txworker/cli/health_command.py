"""`txworker health`: whether a worker takes new jobs, or only whether it answers; for probes of containers."""

from __future__ import annotations

import argparse
import json

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthStub

from txworker.cli import console
from txworker.cli.failures import REFUSED

_SERVING = pb.HealthCheckResponse.SERVING


def health(channel: grpc.Channel, options: argparse.Namespace) -> int:
    """
    Print the status by which the worker answers the standard health check; 0 if it is SERVING, or with --live any.

    Raises:
        RpcError: it does not answer.
    """
    answer = HealthStub(channel).Check(pb.HealthCheckRequest(), timeout=options.deadline)
    status = pb.HealthCheckResponse.ServingStatus.Name(answer.status)
    console.print_lines(json.dumps({"status": status}) if options.json else status)
    return 0 if options.live or answer.status == _SERVING else REFUSED
