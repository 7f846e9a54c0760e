"""Makes `twistd worker` known; everything else is in txworker.daemon.service."""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker(
    "txworker",
    "txworker.daemon.service",
    "A job worker: runs, watches and ends processes for a remote scheduler, over gRPC.",
    "worker",
)
