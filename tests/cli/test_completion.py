"""`txworker completion` without what it needs; tests/live/test_cli_completion.py has it in a real shell."""

from __future__ import annotations

import sys
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.completion_command import completion
from txworker.cli.failures import Failed
from txworker.cli.parser import parse


class CompletionTests(SynchronousTestCase):
    def test_not_installed(self) -> None:
        """Without the extra the sentence names it."""
        with (
            mock.patch.dict(sys.modules, {"shtab": None}),
            self.assertRaisesRegex(Failed, r"completion needs shtab: pip install 'txworker\[completion\]'"),
        ):
            completion(parse(["completion", "bash"]))
