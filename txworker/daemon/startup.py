"""
Assembles the worker and starts it; each error of the start becomes one sentence.

Imports gRPC, so it is imported only after twistd has forked.
"""

from __future__ import annotations

from typing import Any

from txworker.config import Config
from txworker.daemon.assembly import assemble
from txworker.daemon.directories import NotUsable, warn_of_log_directory
from txworker.daemon.lifetime import StagedServices
from txworker.daemon.refusals import CannotStart, check_not_stopped
from txworker.daemon.signals import SignalActions, Terminal, handle_signals
from txworker.daemon.start_context import StartContext
from txworker.jobs.errors import StoreBroken
from txworker.monitoring.errors import CannotServe
from txworker.rpc.server import CannotListen
from txworker.store.errors import Unusable


def start(config: Config, reactor: Any, context: StartContext) -> StagedServices:
    """
    The services of the worker, started; from now on it obeys signals.

    Raises:
        CannotStart: an address, a directory or a certificate cannot be used.
        StoppedEarly: a signal ends the worker, which need not wait then for what it would be refused.
    """
    try:
        return _started(config, reactor, context)
    except CannotStart:
        check_not_stopped()
        raise


def _started(config: Config, reactor: Any, context: StartContext) -> StagedServices:
    try:
        assembled = assemble(config, reactor, context)
        actions = SignalActions(
            reload=assembled.reload.begin,
            reopen_log=context.log_output.reopen,
            drain=assembled.drain.begin,
            hand_over=assembled.handover.begin,
        )
        check_not_stopped()
        handle_signals(reactor, actions, Terminal())
        assembled.services.startService()
        assembled.serving()
        if context.log_output.directory is not None:
            warn_of_log_directory(context.log_output.directory)
        reactor.callWhenRunning(context.notifier.ready)  # signals are handled from then on
    except CannotListen as error:
        raise CannotStart(f"txworker: grpc_server.addr: {error}") from error
    except CannotServe as error:
        raise CannotStart(f"txworker: web.addr: {error}") from error
    except NotUsable as error:
        raise CannotStart(f"txworker: {error}") from error
    except (Unusable, StoreBroken) as error:
        raise CannotStart(f"txworker: jobs.state_directory: {error}") from error
    except OSError as error:
        raise CannotStart(f"txworker: {error.filename or 'cannot start'}: {error.strerror or error}") from error
    return assembled.services
