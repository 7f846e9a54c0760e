"""What can be changed while the worker runs: puts the values of another configuration in force."""

from __future__ import annotations

from dataclasses import dataclass

from txworker.config import Config
from txworker.daemon.core import policy_of
from txworker.daemon.handover import Handover
from txworker.daemon.log_output import LogOutput
from txworker.daemon.timers import retention_limits
from txworker.process.launcher import Launcher
from txworker.worker.retention import RetentionService
from txworker.worker.worker import Worker


@dataclass(frozen=True)
class LiveSettings:
    """The parts that a reload changes. Certificates are not among them: the server reads the running configuration."""

    worker: Worker
    launcher: Launcher
    retention: RetentionService
    handover: Handover
    log_output: LogOutput

    def apply(self, config: Config) -> None:
        """Put the configuration's live keys (reload.py) in force. Reactor thread."""
        self.worker.set_policy(policy_of(config.jobs))
        self.launcher.set_grace_seconds(config.jobs.stop_grace_seconds)
        self.retention.set_limits(retention_limits(config.jobs))
        self.handover.configure(config.jobs.at_stop == "leave")
        self.log_output.set_level(config.log.level)
