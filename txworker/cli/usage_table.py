"""The table of `txworker top`. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from txworker.base.printable import printable
from txworker.base.quantities import counted
from txworker.cli.formatting import LONG_ID, SHORT_ID, Labels, command_line, fitted, label_text, plain, size, span
from txworker.cli.live_usage import JobUse
from txworker.cli.table import Column, heading_line, line

LAST = "COMMAND"

_COLUMNS = (
    Column("CPU%", 6, ">"),
    Column("MEMORY", 6, ">"),
    Column("PROCS", 5, ">", dropped=2),
    Column("RAN", 6, ">", dropped=1),
    Column("OUTPUT", 6, ">", dropped=3),
)


@dataclass(frozen=True)
class View:
    """
    What is shown: a heading and notes where there is a screen; between them a table, of which the last cell of each row
    is the command. All texts are printable.
    """

    columns: list[Column]
    rows: list[list[str]]
    heading: str
    notes: list[str]


def view(
    found: Sequence[JobUse], workers: Sequence[str], short: bool, labels: Labels, heading: str, notes: Sequence[str]
) -> View:
    """workers: their names, where there are several. short: so are the ids. labels: those that have a column."""
    of_workers = [Column("WORKER", max(map(len, ("WORKER", *workers))))] if workers else []
    of_labels = [Column(fitted(printable(name.upper()), width), width) for name, width in labels.items()]
    job = Column("JOB", SHORT_ID if short else LONG_ID)
    return View(
        [*of_workers, job, *_COLUMNS, *of_labels],
        [[*([use.worker] if workers else []), *_cells(use, short, labels), command_line(use.job)] for use in found],
        printable(heading),
        [printable(note) for note in notes],
    )


def lines(shown: View, width: int | None) -> list[str]:
    """The table for a terminal of this width; None: nothing is left out or cut."""
    rows = [line(shown.columns, cells, last, width) for *cells, last in shown.rows]
    return [heading_line(shown.columns, LAST, width), *rows]


def summary(found: Sequence[JobUse]) -> str:
    """What all of these use together."""
    usages = [use.usage for use in found if use.usage]
    cpu = sum(use.cpu_percent or 0.0 for use in found)
    processes, memory = sum(usage.processes for usage in usages), sum(usage.rss_bytes for usage in usages)
    jobs, running = counted(len(found), "job", "jobs"), counted(processes, "process", "processes")
    return f"{jobs}, {running}, {cpu:.1f} % CPU, {size(memory)} memory"


def as_values(use: JobUse) -> dict[str, object]:
    """For --json: the wire's names, numbers as they are, the job's whole record."""
    usage = use.usage
    return {
        "jobID": use.job.jobID,
        "cpuPercent": None if use.cpu_percent is None else round(use.cpu_percent, 3),
        "rssBytes": usage.rss_bytes if usage else None,
        "processes": usage.processes if usage else None,
        "userCPU": usage.user_cpu if usage else None,
        "systemCPU": usage.system_cpu if usage else None,
        "job": plain(use.job),
    }


def _cells(use: JobUse, short: bool, labels: Labels) -> list[str]:
    usage = use.usage
    return [
        printable(use.job.jobID[:SHORT_ID] if short else use.job.jobID),
        "-" if use.cpu_percent is None else f"{use.cpu_percent:.1f}",
        size(usage.rss_bytes) if usage else "-",
        str(usage.processes) if usage else "-",
        span(use.ran_seconds),
        size(use.job.outputBytes),
        *(fitted(label_text(use.job, name), most) for name, most in labels.items()),
    ]
