"""
`txworker completion`: makes shells complete commands, options, files, the ids of jobs and the names of workers.

shtab makes the script from the parser. What only a worker or client.toml knows, the script asks this program for at
each press of the Tab key (`--words`), together with the line that is being typed, which may name the worker.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from txworker.cli import completed_words, console
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.parser import program

_JOBS, _WORKERS = "_txworker_jobs", "_txworker_workers"

_FILES = ("tls_ca", "tls_cert", "tls_key", "stdin", "web_cert", "web_key", "client_ca")
_DIRECTORIES = ("--state-directory",)

# Not by `compgen -W`, which expands the words that it is given, $(…) too: they come from a worker.
_BASH = """\
_txworker_words() {
  local word
  while IFS= read -r word; do
    printf -v word %q "$word"
    [[ $word != "$2"* ]] || printf '%s\\n' "$word"
  done < <("${COMP_WORDS[0]}" completion bash --words="$1" --line="${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
_txworker_jobs() { _txworker_words jobs "$1"; }
_txworker_workers() { _txworker_words workers "$1"; }
"""

_ZSH = """\
_txworker_words() {
  local -a found
  found=("${(@f)$(_call_program txworker-words txworker completion zsh --words=$1 --line=${(q)LBUFFER} 2>/dev/null)}")
  (( $#found[1] )) && _describe -V "$1" found
}
_txworker_jobs() { _txworker_words jobs }
_txworker_workers() { _txworker_words workers }
"""

_FISH = """\
function _txworker_words
  command txworker completion fish --words=$argv[1] --line=(commandline -cp | string collect) 2>/dev/null
end
"""

_PREAMBLES = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(options: argparse.Namespace) -> int:
    """
    Print the script for this shell, or words that it asks for.

    Raises:
        Failed: shtab is not installed.
    """
    console.check_open()
    if options.words:
        words = completed_words.jobs(options.line) if options.words == "jobs" else completed_words.workers()
        console.print_text("".join(f"{line}\n" for line in completed_words.lines(options.shell, words)))
        return 0
    console.print_text(f"{_script(options.shell)}\n")
    return 0


def _script(shell: str) -> str:
    try:
        shtab = import_module("shtab")  # an extra: only this command needs it
    except ImportError as error:
        raise Failed("completion needs shtab: pip install 'txworker[completion]'", REFUSED) from error
    parser = program()
    for action in _actions(parser):
        if shell == "zsh" and isinstance(action.metavar, str):
            action.metavar = action.metavar.replace(":", "\\:")  # a colon ends the name of an option's value there
        if words := _completed_by(action, shtab):
            action.complete = words  # type: ignore[attr-defined]  # shtab looks for it
    script: str = shtab.complete(parser, shell, preamble=_PREAMBLES[shell])
    # Of several jobs, shtab would have zsh complete the first only.
    return script.replace('"(*):', '"*:').replace('"(*)::', '"*:') if shell == "zsh" else script


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from command._actions


def _completed_by(action: argparse.Action, shtab: Any) -> dict[str, str] | None:
    if action.dest == "jobs":
        return {"bash": _JOBS, "zsh": _JOBS, "fish": "(_txworker_words jobs)"}
    if action.dest == "worker":
        return {"bash": _WORKERS, "zsh": _WORKERS, "fish": "(_txworker_words workers)"}
    if action.dest in _FILES:
        return dict(shtab.FILE)
    if set(action.option_strings) & set(_DIRECTORIES):
        return dict(shtab.DIRECTORY)
    return None
