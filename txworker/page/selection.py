"""Filters of jobs, as they stand in the query of the page's URL. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from txworker.base import quantities
from txworker.base.printable import cut, printable
from txworker.client import JobState
from txworker.page.values import Row, state_name

STATES = {state_name(state): state for state in JobState if state}

KEYS = ("state", "label", "text", "worker", "since")
"""The parameters of a URL that are filters."""

MOST_VALUES = 50
"""The most values of one parameter."""


class WrongQuery(ValueError):
    """A parameter of a URL is wrong. The message is one sentence that names it."""


@dataclass(frozen=True)
class Selection:
    """
    A job matches if it is in one of the states, has all labels (None: with any value), shows the text in its row, is of
    one of the workers, and was created at most `within` seconds ago, or since a time. An empty filter matches all.
    """

    states: frozenset[JobState] = frozenset()
    labels: tuple[tuple[str, str | None], ...] = ()
    text: str = ""
    workers: frozenset[str] = frozenset()
    within: float | None = None
    since: float | None = None

    def has(self, row: Row, now: float) -> bool:
        """Whether the row matches."""
        earliest = now - self.within if self.within is not None else self.since
        return (
            (not self.states or row.state in self.states)
            and (not self.workers or row.worker in self.workers)
            and (earliest is None or row.created >= earliest)
            and all(_labelled(row, name, value) for name, value in self.labels)
            and (not self.text or self.text in _searched(row))
        )


def selection_of(query: Mapping[str, Sequence[str]]) -> Selection:
    """
    The filters of a URL; other parameters are ignored.

    Raises:
        WrongQuery: one of them is wrong.
    """
    for key in KEYS:
        if len(query.get(key, ())) > MOST_VALUES:
            raise WrongQuery(f"{key} is given more than {MOST_VALUES} times")
    within, since = _since(_last(query, "since"))
    return Selection(
        states=frozenset(_state(word) for word in _words(query, "state")),
        labels=tuple(_label(text) for text in query.get("label", ()) if text),
        text=_last(query, "text").strip().lower(),
        workers=frozenset(_words(query, "worker")),
        within=within,
        since=since,
    )


def _last(query: Mapping[str, Sequence[str]], key: str) -> str:
    values = query.get(key, ())
    return values[-1] if values else ""


def _words(query: Mapping[str, Sequence[str]], key: str) -> list[str]:
    return [word for text in query.get(key, ()) for word in text.split(",") if word]


def _state(word: str) -> JobState:
    if word not in STATES:
        raise WrongQuery(f"state: {_shown(word)} is not a state of a job; the states are {', '.join(STATES)}")
    return STATES[word]


def _label(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name:
        raise WrongQuery(f"label: {_shown(text)} is not NAME or NAME=VALUE")
    return printable(name), printable(value) if equals else None


def _since(text: str) -> tuple[float | None, float | None]:
    """A duration before now in seconds, or a time in seconds since the epoch; the other one is None."""
    if not text:
        return None, None
    try:
        return quantities.seconds(text), None
    except ValueError:
        pass
    try:
        return None, datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in "zZ" else text).timestamp()
    except (ValueError, OverflowError):
        raise WrongQuery(
            f"since: {_shown(text)} is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 1h30m"
        ) from None


def _labelled(row: Row, name: str, value: str | None) -> bool:
    return name in row.labels and value in (None, row.labels[name])


def _searched(row: Row) -> str:
    labels = " ".join(f"{name}={value}" for name, value in row.labels.items())
    return f"{row.id}\n{row.command}\n{labels}\n{row.error}".lower()


def _shown(text: str) -> str:
    return f"'{printable(cut(text))}'"
