"""The interfaces that the worker needs from other rooms; daemon/assembly.py hands the implementations in."""

from txworker.ports.observer import NO_OBSERVER, Observer
from txworker.ports.output import Output, OutputDirectory, OutputWriter
from txworker.ports.processes import Launcher, Listener, LiveUsages, Running, Stdin
from txworker.ports.store import Check, JobGenerator, Records, Store
from txworker.ports.tracer import CallSpan, Tracer
from txworker.ports.world import World

__all__ = [
    "NO_OBSERVER",
    "CallSpan",
    "Check",
    "JobGenerator",
    "Launcher",
    "Listener",
    "LiveUsages",
    "Observer",
    "Output",
    "OutputDirectory",
    "OutputWriter",
    "Records",
    "Running",
    "Stdin",
    "Store",
    "Tracer",
    "World",
]
