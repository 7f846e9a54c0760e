"""The image is built and run, where there is a builder that works; tests/test_containerfile.py looks at the file."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import wait_until

pytestmark = pytest.mark.slow

TOP = Path(__file__).resolve().parent.parent.parent
BUILD_SECONDS = 900.0
LIMIT = 60.0


def run(*words: str, limit: float = LIMIT) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def engine() -> str:
    """podman or docker, of which one works here."""
    for name in filter(shutil.which, ("podman", "docker")):
        if subprocess.run([name, "info"], capture_output=True, timeout=LIMIT, check=False).returncode == 0:
            return name
    pytest.skip("neither podman nor docker works here")


@pytest.fixture(scope="module")
def image(engine: str) -> Iterator[str]:
    """The image, built anew."""
    base = re.search(r"^ARG PYTHON_IMAGE=(\S+)", (TOP / "Containerfile").read_text(), re.MULTILINE)
    assert base is not None
    if subprocess.run([engine, "pull", base[1]], capture_output=True, timeout=BUILD_SECONDS, check=False).returncode:
        pytest.skip(f"{base[1]} cannot be pulled here")
    name = f"txworker-test-{uuid.uuid4().hex[:8]}"
    docker_format = ["--format", "docker"] if engine == "podman" else []  # OCI's has no health check
    run(engine, "build", *docker_format, "-f", "Containerfile", "-t", name, ".", limit=BUILD_SECONDS)
    yield name
    run(engine, "rmi", "--force", name)


@pytest.fixture
def container(engine: str, image: str) -> Iterator[str]:
    """A worker."""
    name = run(engine, "run", "--detach", image).strip()
    yield name
    run(engine, "rm", "--force", "--volumes", name)


def test_container(engine: str, container: str) -> None:
    """It serves, is not root, runs jobs, reaps what they leave behind, is healthy, and ends in order."""
    inside = (engine, "exec", container)
    wait_until(lambda: "Serving on 0.0.0.0:30000" in logs(engine, container), LIMIT)
    assert run(*inside, "txworker", "health", "--live") == "SERVING\n"
    assert run(*inside, "txworker", "run", "bash", "-c", "id -u; setsid -f sleep 0.1") == "10001\n"
    assert run(*inside, "cat", "/proc/1/comm").startswith("twistd")
    run(engine, "stop", container)
    assert run(engine, "inspect", "--format", "{{.State.ExitCode}}", container) == "0\n"
    assert "The worker has ended; goodbye." in logs(engine, container)


def logs(engine: str, container: str) -> str:
    """All that the worker has printed."""
    done = subprocess.run([engine, "logs", container], capture_output=True, text=True, timeout=LIMIT, check=True)
    return done.stdout + done.stderr
