"""
The page: shows the jobs of any number of workers in a browser. To the workers it is a client like any other.

`txworker web` serves it from a process of its own. serving.py listens, routes.py answers, worker_link.py has the one
connection to each worker that all browsers share, and static/ is what a browser runs.
"""

from txworker.page.place import Place, WrongPlace
from txworker.page.serving import page_of, serve, serve_alone
from txworker.page.values import PageWorker

__all__ = ["PageWorker", "Place", "WrongPlace", "page_of", "serve", "serve_alone"]
