"""Why the worker takes no jobs at the moment: what gRPC health, /readyz and the metrics tell."""

from __future__ import annotations

from collections.abc import Callable

STOPPING = "stopping"
DRAINING = "draining"
STORE = "store"
SHIM = "shim"
OUTPUT = "output"

CAUSES = (STOPPING, DRAINING, STORE, SHIM, OUTPUT)
"""The words for programs; a sentence comes with each."""


class Readiness:
    """
    At first the worker is ready. changed(ready) is called when the first reason comes and when the last one goes.

    Methods: reactor thread. reasons: any thread.
    """

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed = changed
        self.reasons: dict[str, str] = {}
        """A sentence for each cause; replaced at each change, never changed."""

    def begin(self, cause: str, sentence: str) -> None:
        """The worker takes no jobs because of that. cause: one of CAUSES."""
        self._replace({**self.reasons, cause: sentence})

    def end(self, cause: str) -> None:
        """That reason is gone."""
        self._replace({other: sentence for other, sentence in self.reasons.items() if other != cause})

    def _replace(self, reasons: dict[str, str]) -> None:
        before, self.reasons = self.reasons, reasons
        if bool(before) is not bool(reasons):
            self._changed(not reasons)
