"""Versions of the worker, each built as a wheel and installed where nothing else is: what an upgrade replaces."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
_TWISTD = "from twisted.scripts.twistd import run; run()"
_LIMIT = 120


class Installed:
    """
    One version in a venv of its own, with the dependencies of this very Python; offline.

    protocol is what it speaks with its shim, store_step a further step of its store's schema.
    """

    def __init__(self, place: Path, version: str, protocol: int, store_step: str = "") -> None:
        self.place = place
        self.version = version
        tree = place / "tree"
        _copy(tree)
        _edit(tree / "pyproject.toml", '\nversion = "', f'\nversion = "{version}"\nunused = "')
        _edit(tree / "pyproject.toml", "\nunused", "\n# unused")
        _edit(tree / "txworker/shim/messages.py", "\nPROTOCOL = ", f"\nPROTOCOL = {protocol}  # not ")
        if store_step:
            _edit(
                tree / "txworker/store/schema.py",
                "\n)\n\n\nclass NewerSchema",
                f'\n    "{store_step}",\n)\n\n\nclass NewerSchema',
            )
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        _run([*pip, "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(place), str(tree)])
        (self.wheel,) = place.glob("*.whl")
        _run([sys.executable, "-m", "venv", "--without-pip", str(place / "venv")])
        (self.packages,) = (place / "venv").glob("lib/python*/site-packages")
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.install(self.wheel)

    @property
    def twistd(self) -> list[str]:
        """Its twistd, for a Daemon."""
        return [str(self.place / "venv/bin/python"), "-c", _TWISTD]

    def install(self, wheel: Path) -> None:
        """What pip install --upgrade does."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.place / "venv")]
        _run([*pip, "install", "-q", "--no-deps", "--no-index", "--force-reinstall", str(wheel)])

    def remove(self) -> None:
        """Every file of the worker's."""
        shutil.rmtree(self.packages / "txworker")


def twistd_with_shim_of(python: str) -> list[str]:
    """This version's twistd, whose shim is run by another Python."""
    return [sys.executable, "-c", f"import sys; sys.executable = {python!r}; {_TWISTD}"]


def _copy(tree: Path) -> None:
    unwanted = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for name in ("txworker", "twisted"):
        shutil.copytree(TOP / name, tree / name, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE", "worker.toml"):
        shutil.copy(TOP / name, tree)
    (tree / "docs").mkdir()
    shutil.copy(TOP / "docs" / "txworker.1", tree / "docs")


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new))


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
