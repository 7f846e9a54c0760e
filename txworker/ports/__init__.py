"""The interfaces that the worker needs from other rooms; daemon/assembly.py hands the implementations in."""

from txworker.ports.output import Output, Shelf
from txworker.ports.processes import Launcher, Listener, Running
from txworker.ports.store import Check, Jobs, Records, Store
from txworker.ports.world import World

__all__ = ["Check", "Jobs", "Launcher", "Listener", "Output", "Records", "Running", "Shelf", "Store", "World"]
