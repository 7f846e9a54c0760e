"""
The words that complete a command line and that only a worker or client.toml knows: ids of jobs, names of workers.

The scripts that `txworker completion` prints ask for them with each press of the Tab key. So after any
error there are no words, and no message: it would appear in the line that is being typed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import NoReturn

from txworker.base.printable import printable
from txworker.cli import common
from txworker.cli.connect import tls_of
from txworker.cli.failures import Failed
from txworker.cli.formatting import command_line, state_name
from txworker.cli.named_jobs import UNFINISHED
from txworker.cli.profiles import WrongProfiles, profiles_path, read_profiles
from txworker.cli.values import socket_in
from txworker.client import Client, WorkerError
from txworker.pb import worker_pb2 as pb

ANSWER_SECONDS = 0.5
"""How long the worker has to answer; with the start of this program a user waits for less than a second."""

MOST_JOBS = 100
"""How many jobs are offered, the newest ones."""

_ON_UNFINISHED = ("stop", "kill", "renew", "wait")
"""Commands for which only unfinished jobs are offered."""

_MOST_CHARACTERS = 60
"""The most characters of a job's command beside its id."""

_ID = re.compile(r"[0-9a-f-]{36}")
"""A job's id, a UUID. Nothing else that a worker sends as one may come into a shell's line."""

Word = tuple[str, str]
"""A word and its description."""


def jobs(line: str) -> list[Word]:
    """The newest jobs of the worker that the line up to the cursor names; unfinished ones for `stop` and the like."""
    words = words_of(line)
    try:
        options = _options(words)
        with Client(options.addr, tls=tls_of(options), patience=0.0, deadline=ANSWER_SECONDS, tell=_silent) as client:
            states = UNFINISHED if options.command_name in _ON_UNFINISHED else ()
            found = client.jobs(states, limit=MOST_JOBS)
            return [_job_word(record.message) for record in found if _ID.fullmatch(record.id)]
    except (_Wrong, WorkerError, Failed, OSError, UnicodeError):
        return []


def workers() -> list[Word]:
    """The workers that client.toml names, with their addresses."""
    try:
        return [(printable(profile.name), profile.addr) for profile in read_profiles(profiles_path()).values()]
    except WrongProfiles:
        return []


def words_of(line: str) -> list[str]:
    """The words of a command line of a shell, which may end in the middle of one; ~ and $NAME are expanded."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    return [os.path.expandvars(os.path.expanduser(word)) for word in _until_unfinished(lexer)]


def lines(shell: str, words: Iterable[Word]) -> Iterator[str]:
    """The words as the script of that shell takes them: bash shows no descriptions."""
    for word, description in words:
        if shell == "bash":
            yield word
        elif shell == "fish":
            yield f"{word}\t{description}"
        else:
            yield f"{_escaped(word)}:{description}"


class _Wrong(Exception):
    """The line cannot be understood."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """argparse: the line is wrong. Raises _Wrong; a usage message would end up among the completed words."""
        raise _Wrong(message)


def _options(words: list[str]) -> argparse.Namespace:
    """The options that name the worker; the rest of the line is ignored."""
    parser = _Parser(add_help=False)
    common.add_to_line(parser)
    parser.add_argument("--state-directory", type=socket_in, dest="addr")
    options, others = parser.parse_known_args(words[1:])
    options.command_name = next((word for word in others if not word.startswith("-")), "")
    options.json = False
    common.check(parser, options)
    return options


def _until_unfinished(lexer: shlex.shlex) -> Iterator[str]:
    try:
        yield from lexer
    except ValueError:  # a quotation that is not closed yet
        return


def _job_word(job: pb.Job) -> Word:
    return job.jobID, f"{state_name(job)} {command_line(job, _MOST_CHARACTERS)}"


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace(":", "\\:")


def _silent(sentence: str) -> None:
    """Print nothing about a worker that does not answer."""
