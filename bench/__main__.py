"""python -m bench: measures the README's figures with a real `twistd -n worker` in a child process."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.adversary import adversary
from bench.against import against
from bench.capture import capture
from bench.clients import a_worker
from bench.faults import faults
from bench.flood import flood
from bench.fuzz import fuzz
from bench.history import history
from bench.latency import latency
from bench.launch import launches, launches_beside_sleeping
from bench.metrics import metrics
from bench.recovery import recovery
from bench.report import Figure, as_json, table
from bench.soak import soak
from bench.store import store
from bench.stream import stream
from bench.takeover import takeover
from bench.viewers import stalled, viewers
from bench.watchers import watchers
from tests.support.daemon import Daemon

Part = Callable[[Path, int], list[Figure]]


def with_worker(measure: Callable[[Daemon, int], list[Figure]]) -> Part:
    """A part that needs only a running worker."""

    def part(directory: Path, rounds: int) -> list[Figure]:
        with a_worker(directory) as daemon:
            return measure(daemon, rounds)

    return part


PARTS: dict[str, Part] = {
    "launch": with_worker(launches),
    "sleeping": with_worker(launches_beside_sleeping),
    "capture": capture,
    "stream": stream,
    "latency": latency,
    "viewers": viewers,
    "stalled": stalled,
    "adversary": adversary,
    "soak": soak,
    "fuzz": fuzz,
    "store": store,
    "watchers": watchers,
    "recovery": recovery,
    "faults": faults,
    "takeover": takeover,
    "history": history,
    "flood": flood,
    "metrics": metrics,
}
"""The parts by name. Each is called with an empty directory and a number of rounds."""


def main(arguments: list[str]) -> None:
    """Measure the named parts, or all, and print the figures."""
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=5, help="figures are medians of so many (%(default)s)")
    parser.add_argument("--directory", help="where the measuring is done: the disk that is meant")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--against", metavar="CHECKOUT", type=Path, help="measure that checkout of the project too, in turns with this"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown or options.rounds < 1:
        parser.error(f"there is no part {unknown[0]!r}" if unknown else "--rounds must be at least 1")
    if options.against:
        print(against(options.against.resolve(), options.parts or list(PARTS), options.rounds, options.directory))
        return
    figures = [figure for name in options.parts or PARTS for figure in _measured(name, options)]
    print(as_json(figures) if options.json else table(figures))


def _measured(name: str, options: argparse.Namespace) -> list[Figure]:
    print(f"measuring {name} …", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="txworker-bench-", dir=options.directory) as directory:
        return PARTS[name](Path(directory), options.rounds)


if __name__ == "__main__":
    main(sys.argv[1:])
