"""`txworker ps` and `txworker watch` of several workers at once. Both return the highest exit status."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import chain
from queue import SimpleQueue

from txworker.cli import console
from txworker.cli.colours import Painted
from txworker.cli.common import use_profile
from txworker.cli.connect import connect, with_tls
from txworker.cli.failures import Failed, failure, unsendable
from txworker.cli.formatting import NO_LABELS, Labels, header
from txworker.cli.list_commands import changes, formatter, label_columns, line_width, listed, short_ids
from txworker.cli.profiles import Profile
from txworker.client import Client, Closed, WorkerError
from txworker.pb import worker_pb2 as pb

_COLUMN = "WORKER"

_JobsOf = Callable[[Client, argparse.Namespace], Iterable[pb.Job]]
_Said = tuple[str, "pb.Job | Failed | OSError | None"]


def ps(options: argparse.Namespace) -> int:
    """The jobs of each worker, newest first, in the order of the workers."""
    found: dict[str, list[pb.Job]] = {profile.name: [] for profile in options.profiles}
    with console.waiting(f"waiting for {len(found)} workers"):
        status = _ask_all(options, listed, lambda name, job: found[name].append(job))
    labels = label_columns(options, list(chain.from_iterable(found.values())))
    if not (options.json or options.quiet):
        reserved = _reserved(options)
        console.print_lines(f"{_COLUMN:<{reserved}}{header(line_width(reserved), short_ids(options), labels)}")
    for name, jobs in found.items():
        for job in jobs:
            console.print_lines(job.jobID if options.quiet else _line(options, name, job, labels))
    return status


def watch(options: argparse.Namespace) -> int:
    """The jobs of all workers, then every change, as it comes."""
    return _ask_all(options, changes, lambda name, job: console.print_lines(_line(options, name, job)))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"ps": ps, "watch": watch}


def _ask_all(options: argparse.Namespace, jobs_of: _JobsOf, take: Callable[[str, pb.Job], object]) -> int:
    """Ask every worker in a thread of its own; errors are printed, and do not affect the other workers."""
    said: SimpleQueue[_Said] = SimpleQueue()
    left, status = len(options.profiles), 0
    with ExitStack() as clients:
        for profile in options.profiles:
            _begin(options, profile, clients, jobs_of, said)
        while left:
            name, what = said.get()
            if what is None:
                left -= 1
            elif isinstance(what, pb.Job):
                take(name, what)
            else:
                console.print_error(f"{name}: {what}")
                status = max(status, what.status if isinstance(what, Failed) else 1)
    return status


def _begin(
    options: argparse.Namespace, profile: Profile, clients: ExitStack, jobs_of: _JobsOf, said: SimpleQueue[_Said]
) -> None:
    """Begin to ask that worker, by one of the clients: with these, the threads end."""
    own = use_profile(argparse.Namespace(**vars(options)), profile)
    try:
        client = clients.enter_context(
            connect(own, lambda sentence: console.print_error(f"{profile.name}: {sentence}"))
        )
    except (Failed, OSError) as error:  # of a TLS file
        said.put((profile.name, error))
        said.put((profile.name, None))
        return
    threading.Thread(target=_ask, args=(client, own, profile.name, jobs_of, said), daemon=True).start()


def _ask(client: Client, options: argparse.Namespace, name: str, jobs_of: _JobsOf, said: SimpleQueue[_Said]) -> None:
    try:
        for job in jobs_of(client, options):
            said.put((name, job))
    except Closed:  # this program ends
        return
    except WorkerError as error:
        said.put((name, failure(error, options.addr, with_tls=with_tls(options))))
    except UnicodeEncodeError as error:
        said.put((name, unsendable(error)))
    finally:
        said.put((name, None))


def _line(options: argparse.Namespace, name: str, job: pb.Job, labels: Labels = NO_LABELS) -> str:
    reserved = _reserved(options)
    line = formatter(options, labels, reserved)(job)
    if options.json:
        return json.dumps({"worker": name, **json.loads(line)})
    name = f"{name:<{reserved}}"
    return line.after(name) if isinstance(line, Painted) else f"{name}{line}"


def _reserved(options: argparse.Namespace) -> int:
    """The width of the column with the names of the workers."""
    return max(len(_COLUMN), *(len(profile.name) for profile in options.profiles)) + 1
