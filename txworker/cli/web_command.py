"""`txworker web`: serves the page of one or several workers, until it is interrupted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from txworker.cli import console
from txworker.cli.common import use_profile
from txworker.cli.connect import tls_of
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.profiles import Profile


def web(options: argparse.Namespace) -> int:
    """
    Serve until SIGINT or SIGTERM.

    Raises:
        Failed: the page cannot be served like that, or a TLS file is wrong.
        OSError: a TLS file cannot be read.
    """
    console.check_open()
    page: Any = import_module("txworker.page")  # Twisted, which no other command needs, takes a while to import
    place = page.Place(
        host=options.listen[0],
        port=options.listen[1],
        names=tuple(options.name),
        cert=options.web_cert,
        key=options.web_key,
        client_ca=options.client_ca,
    )
    workers = [page.PageWorker(name, own.addr, tls_of(own)) for name, own in _workers(options)]
    for worker in workers:
        if worker.tls is not None:
            worker.tls.credentials()  # a wrong file is reported now, and by its name

    def print_address(url: str) -> None:
        names = [worker.name for worker in workers]
        said = json.dumps({"url": url, "workers": names}) if options.json else f"{url} shows {', '.join(names)}"
        console.print_lines(said)

    try:
        page.serve_alone(workers, place, options.allow_stop, print_address)
    except page.WrongPlace as error:
        raise Failed(str(error), REFUSED) from error
    return 0


def _workers(options: argparse.Namespace) -> Iterator[tuple[str, argparse.Namespace]]:
    """The name and options of each worker: from client.toml, or from the addresses, which are also the names."""
    for profile in options.profiles:
        yield profile.name, use_profile(argparse.Namespace(**vars(options)), profile)
    if not options.profiles:
        for addr in dict.fromkeys(options.workers or [options.addr]):
            own = Profile(addr, addr, options.tls_ca, options.tls_cert, options.tls_key)
            yield addr, use_profile(argparse.Namespace(**vars(options)), own)
