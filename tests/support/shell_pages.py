"""
The shell blocks of the operators' pages: what to run, where, and what each prints.

A comment before a block says where it is run (`both`, `systemd`, `never`; else beside a daemon), what it needs and how
it ends: `<!-- run: both, needs openssl, status 1 -->`. See Block.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
STORY = (
    "docs/operations.md",
    "docs/metrics.md",
    "docs/limits.md",
    "docs/tls.md",
    "docs/page.md",
    "docs/logs.md",
    "docs/debugging.md",
)
"""The pages whose blocks are run, one after the other: each goes on where the one before has ended."""

PAGES = (*STORY, "docs/containers.md")

_BLOCK = re.compile(
    r"(?:^<!-- run: (?P<words>[^\n]*) -->\n)?^```sh\n(?P<script>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
_NAME = re.compile(r'^export (\w+)="\$\{\1:-(.*)\}"', re.MULTILINE)
_WORDS = ("both", "systemd", "never", "status", "until", "needs")


@dataclass(frozen=True)
class Block:
    """
    One block of a page, under its nearest heading.

    places: "daemon" where a worker is a daemon of twistd's, "systemd" where it is a unit; empty: it is never run.
    needs: programs, "pypi". until: what it prints before it is interrupted. printed: lines that it prints, in order.
    """

    page: str
    heading: str
    script: str
    printed: tuple[str, ...] = ()
    places: tuple[str, ...] = ("daemon",)
    needs: tuple[str, ...] = ()
    status: int = 0
    until: str = ""

    def __str__(self) -> str:
        return f"{self.page}, {self.heading}:\n{self.script}"


def blocks(page: str) -> list[Block]:
    """
    The page's blocks, in order.

    Raises:
        ValueError: a comment has a word that is not known.
    """
    text = (TOP / page).read_text(encoding="utf-8")
    return [_block(page, text, found) for found in _BLOCK.finditer(text)]


def names() -> dict[str, str]:
    """What the first block of the operators' page sets unless it is set already, with the values of the page."""
    return dict(_NAME.findall(blocks(STORY[0])[0].script))


def missing(block: Block) -> list[str]:
    """The programs that the block needs and that are not here."""
    return [name for name in block.needs if name != "pypi" and not shutil.which(name, path=_search_path())]


def unprinted(block: Block, output: str, values: Mapping[str, str]) -> str:
    """
    The first line of those that the block should print that is not in the output, after the one before; empty: none.

    Numbers may be others, blanks more or fewer, `…` is anything, and the values that the page has for its names are
    replaced by these.
    """
    found = 0
    for line in block.printed:
        match = re.compile(_pattern(line, values)).search(output, found)
        if match is None:
            return line
        found = match.end()
    return ""


def _block(page: str, text: str, found: re.Match[str]) -> Block:
    headings = re.findall(r"^#+ (.*)$", text[: found.start()], re.MULTILINE)
    words = [word.strip().partition(" ")[::2] for word in (found["words"] or "").split(",") if word]
    unknown = [word for word, _ in words if word not in _WORDS]
    if unknown:
        raise ValueError(f"{page}, {headings[-1]}: {unknown}")
    options = dict(words)
    places: tuple[str, ...] = ("daemon",)
    if "both" in options:
        places = ("daemon", "systemd")
    elif "systemd" in options:
        places = ("systemd",)
    elif "never" in options:
        places = ()
    return Block(
        page,
        headings[-1],
        found["script"],
        tuple((found["printed"] or "").splitlines()),
        places,
        tuple(options.get("needs", "").split()),
        int(options.get("status", "0")),
        options.get("until", ""),
    )


def _pattern(line: str, values: Mapping[str, str]) -> str:
    """Longer values are replaced first: one may be a part of another."""
    for name, value in sorted(names().items(), key=lambda item: -len(item[1])):
        line = line.replace(value, values[name])
    pattern = re.escape(line.strip())
    for known in sorted(values.values(), key=lambda value: -len(value)):
        pattern = pattern.replace(re.escape(known), f"\0{known}\0")
    parts = pattern.split("\0")
    parts[::2] = (re.sub(r"\d+", r"\\d+", part.replace("…", ".*")) for part in parts[::2])
    parts[1::2] = map(re.escape, parts[1::2])
    return re.sub(r"(?:\\ )+", r"\\s+", "".join(parts))


def _search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
