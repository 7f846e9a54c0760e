"""The unit that ships, for a worker of a test's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

UNIT = Path(__file__).resolve().parents[2] / "packaging" / "systemd" / "txworker.service"
PROGRAMS = Path(sys.executable).parent


def unit_for(place: Path, *more: str) -> str:
    """
    The unit's text with the paths of a worker in that place, which logs to `log` there; run by root, as the test is.
    more: further lines of [Service].
    """
    text = UNIT.read_text(encoding="utf-8")
    text = text.replace("/opt/txworker/bin", str(PROGRAMS)).replace("/etc/txworker", str(place))
    text = text.replace("/var/lib/txworker/state", f"{place}/state").replace("/srv/jobs", str(place))
    text = re.sub(r"^(User|StateDirectory\w*)=.*\n", "", text, flags=re.MULTILINE)
    lines = (
        f"StandardOutput=append:{place}/log",
        "StandardError=inherit",
        f"Environment=PATH={PROGRAMS}:/usr/bin:/bin",
        *more,
    )
    text = text.replace("[Unit]\n", "[Unit]\nDefaultDependencies=no\n")
    return text.replace("[Service]\n", "[Service]\n" + "".join(f"{line}\n" for line in lines))
