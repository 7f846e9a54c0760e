"""Files that are served unchanged. They are read once, from the package: no path of a request is ever opened."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Traversable  # moved to importlib.resources.abc in Python 3.11

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class StaticFile:
    """A file, its media type, and the entity tag by which a browser recognizes that it has not changed."""

    content: bytes
    type: str
    etag: bytes


def static_files() -> dict[str, StaticFile]:
    """Every file of static/, by its path there."""
    return dict(_found(files("txworker.page") / "static", ""))


def _found(directory: Traversable, prefix: str) -> list[tuple[str, StaticFile]]:
    found = []
    for entry in directory.iterdir():
        if entry.is_dir():
            found += _found(entry, f"{prefix}{entry.name}/")
        elif (suffix := entry.name.rpartition(".")[2]) in _TYPES:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'.encode()
            found.append((f"{prefix}{entry.name}", StaticFile(content, _TYPES[suffix], etag)))
    return found
