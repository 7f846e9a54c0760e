"""
The worker's configuration: worker.toml is read at the start, and again at each reload, into frozen values.

Every mistake becomes one ConfigError that names its dotted key. Reading creates, binds and dials nothing.

To add a key: a field with its default in values.py, a line in readers.py, a few lines in the example worker.toml.
"""

from txworker.config.load import load, load_again
from txworker.config.values import Config, ConfigError, GrpcServer, Jobs, Log, Scheduler, Tracing, Web, Worker

__all__ = [
    "Config",
    "ConfigError",
    "GrpcServer",
    "Jobs",
    "Log",
    "Scheduler",
    "Tracing",
    "Web",
    "Worker",
    "load",
    "load_again",
]
