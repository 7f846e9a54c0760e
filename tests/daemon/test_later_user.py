"""A worker that root starts as another user (twistd --uid): its configuration is checked with that user's rights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.other_users import ROOT, open_directory
from txworker.daemon.later_user import rights_of
from txworker.daemon.refusals import CannotStart
from txworker.daemon.service import Options

NOBODY = 65534


@ROOT
class LaterUserTests(SynchronousTestCase):
    def checked(self, place: Path, text: str, uid: int | None = NOBODY) -> str:
        """What `twistd --uid … worker --check` says of that configuration; "" if it is good."""
        config = place / "worker.toml"
        config.write_text(text)
        config.chmod(0o600)
        options = Options()
        parent: Any = {"uid": uid, "gid": None, "umask": None}
        options.parent = parent
        ended = self.assertRaises(SystemExit, options.parseOptions, ["--config", str(config), "--check"])
        return str(ended) if isinstance(ended, CannotStart) else ""

    def test_directories_of_that_user(self) -> None:
        """Directories of that user are its own; root would refuse them. The file itself is read as root."""
        with open_directory() as place:
            jobs = place / "jobs"
            jobs.mkdir()
            text = (
                f'jobs.directory = "/"\njobs.output_directory = "{jobs}/output"\njobs.state_directory = "{jobs}/state"'
            )
            os.chown(jobs, NOBODY, NOBODY)
            self.assertEqual("", self.checked(place, text))
            self.assertIn("not safe for a worker that is root", self.checked(place, text, None))

    def test_what_only_root_can(self) -> None:
        """What that user cannot do is refused before the start, as if it had started the worker."""
        with open_directory() as place:
            (place / "closed").mkdir(mode=0o700)
            for text, refusal in (
                ('jobs.directory = "/"\njobs.user = "root"', "jobs.user: only a worker that runs as root"),
                ('jobs.directory = "/"\njobs.nice = -5', "jobs.nice: must be 0 or more, not -5: only root"),
                (f'jobs.directory = "{place}/closed"', "closed cannot be entered"),
            ):
                self.assertIn(refusal, self.checked(place, text))

    def test_afterwards(self) -> None:
        """Afterwards the process is as it was, whatever happens meanwhile."""
        before = (os.getresuid(), os.getresgid(), os.getgroups())
        with self.assertRaises(ZeroDivisionError), rights_of(NOBODY, NOBODY):
            self.assertEqual((NOBODY, NOBODY), (os.geteuid(), os.getegid()))
            raise ZeroDivisionError
        self.assertEqual(before, (os.getresuid(), os.getresgid(), os.getgroups()))

    def test_user_without_a_name(self) -> None:
        """A number that no user has is refused with a sentence: twistd asks for the user's groups."""
        refusal = self.assertRaises(CannotStart, rights_of(4_000_123, None).__enter__)
        self.assertEqual("txworker: twistd --uid: there is no user 4000123", str(refusal))
