"""The filters of the page's address."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.page.fakes import NOW, record
from txworker.page.selection import WrongQuery, selection_of
from txworker.page.values import row_of
from txworker.pb import worker_pb2 as pb


def chosen(job: Any, **query: str | list[str]) -> bool:
    """Those filters let that job pass."""
    lists = {name: [value] if isinstance(value, str) else value for name, value in query.items()}
    return selection_of(lists).has(row_of("w", job), NOW)


class SelectionTests(SynchronousTestCase):
    def test_filters(self) -> None:
        """Each narrows the list; all of them must fit; none chooses all."""
        job = record(command="Report.py", labels={"night": "1", "team": "x"}, ago=100)
        for query in (
            {},
            {"state": "running,failed"},
            {"state": ["failed", "running"]},
            {"label": "night"},
            {"label": ["night=1", "team=x"]},
            {"text": "  rEPORT "},
            {"text": "team=x"},
            {"worker": "w"},
            {"worker": "v,w"},
            {"since": "2m"},
            {"since": "2000-01-01T00:00:00Z"},
            {"page": "3"},
        ):
            self.assertTrue(chosen(job, **query), query)
        for query in (
            {"state": "failed"},
            {"label": "night=2"},
            {"label": ["night", "other"]},
            {"text": "nothing"},
            {"worker": "v"},
            {"since": "1m"},
            {"since": "2099-01-01T00:00:00Z"},
            {"state": "running", "worker": "v"},
        ):
            self.assertFalse(chosen(job, **query), query)

    def test_errors_are_searched(self) -> None:
        """A text is looked for in the job's error and id, too."""
        job = record("abc", state=pb.JOB_STATE_FAILED, errorText="exit status 3")
        self.assertTrue(chosen(job, text="status 3"))
        self.assertTrue(chosen(job, text="ABC"))

    def test_mistakes(self) -> None:
        """Each is one sentence that names the parameter and the value."""
        table: dict[str, dict[str, list[str]]] = {
            "state: 'lame' is not a state of a job; the states are pending, running,": {"state": ["lame"]},
            "label: '=1' is not NAME or NAME=VALUE": {"label": ["=1"]},
            "since: 'soon' is neither a time such as": {"since": ["soon"]},
            "label is given more than 50 times": {"label": ["a"] * 51},
            r"state: '\x1b' is not a state": {"state": ["\x1b"]},
        }
        for sentence, query in table.items():
            with self.assertRaises(WrongQuery) as caught:
                selection_of(query)
            self.assertIn(sentence, str(caught.exception))
