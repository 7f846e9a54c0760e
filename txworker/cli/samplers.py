"""Samples what the running jobs of workers use, each worker in a thread of its own."""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from txworker.cli.common import use_profile
from txworker.cli.connect import connect, with_tls
from txworker.cli.failures import REFUSED, Failed, failure, unsendable
from txworker.cli.live_usage import Sample, sample
from txworker.client import Client, Closed, WorkerError


@dataclass(frozen=True)
class Heard:
    """News of a worker: a sample, a sentence about its connection, or its failure; None: no more will come."""

    worker: str
    what: Sample | str | Failed | None


class Samplers:
    """
    A context, inside which the threads ask. Main thread.

    pauses: for each worker, the seconds before each of its samples. Where jobs are named, none are taken once all are
    done. A worker that cannot be reached is waited for as --patience says. left: the workers of which more will come.
    fileno() is for select(): readable when something was heard.
    """

    def __init__(self, options: argparse.Namespace, pauses: Callable[[], Iterable[float]]) -> None:
        self.left = 0
        self._options = options
        self._pauses = pauses
        self._told: SimpleQueue[Heard] = SimpleQueue()
        self._clients: list[Client] = []
        self._over = threading.Event()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)

    def __enter__(self) -> Samplers:
        named = [(profile.name, use_profile(_copy(self._options), profile)) for profile in self._options.profiles]
        for name, options in named or [(self._options.addr, self._options)]:
            self.left += 1
            self._begin(name, options)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for client in self._clients:
            client.close()
        self._woken.close()
        self._wake.close()

    def fileno(self) -> int:
        """A descriptor that is readable when heard() has something to return."""
        return self._woken.fileno()

    def heard(self) -> Iterator[Heard]:
        """What has come since the last call, in order. Main thread."""
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        with suppress(Empty):
            while True:
                heard = self._told.get_nowait()
                self.left -= heard.what is None
                yield heard

    def wake(self) -> None:
        """Make the descriptor readable although nothing was heard. Any thread."""
        with suppress(OSError):  # it is full, and so readable; or closed
            self._wake.send(b".")

    def _begin(self, name: str, options: argparse.Namespace) -> None:
        try:
            client = connect(options, partial(self._tell, name))
        except Failed as failed:
            self._tell(name, failed)
            self._tell(name, None)
            return
        except OSError as error:  # of a TLS file
            self._tell(name, Failed(f"{error.filename}: {error.strerror or error}", REFUSED))
            self._tell(name, None)
            return
        self._clients.append(client)
        threading.Thread(target=self._ask, args=(name, options, client), daemon=True).start()

    def _ask(self, name: str, options: argparse.Namespace, client: Client) -> None:
        try:
            ids = [client.get(word).id for word in options.jobs]
            for pause in self._pauses():
                if self._over.wait(pause):
                    return
                found = sample(client, ids, options.label, time.monotonic)
                self._tell(name, found)
                if ids and not found.jobs:
                    return
        except Closed:
            return
        except WorkerError as error:
            self._tell(name, failure(error, options.addr, with_tls=with_tls(options)))
        except UnicodeEncodeError as error:
            self._tell(name, unsendable(error))
        finally:
            self._tell(name, None)

    def _tell(self, name: str, what: Sample | str | Failed | None) -> None:
        """Any thread."""
        self._told.put(Heard(name, what))
        self.wake()


def _copy(options: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(**vars(options))
