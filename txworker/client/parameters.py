"""What a caller gives: an error names the parameter, and shows the value unless that may be a secret."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

WHOLE_NUMBER = "a whole number"
SECONDS = "a number of seconds"
NAMES = "a mapping of strings to strings"


@contextmanager
def parameter(name: str, kind: str, value: object, secret: bool = False) -> Iterator[None]:
    """
    Inside the block the value is converted. kind: what it should be, in words.

    Raises:
        TypeError: it is of another type.
        ValueError: it cannot be sent: a number is too large, say. A UnicodeEncodeError is passed on.
    """
    try:
        yield
    except UnicodeEncodeError:
        raise
    except (TypeError, AttributeError) as error:
        shown = "" if secret else f", not {reprlib.repr(value)}"
        raise TypeError(f"{name} must be {kind}{shown}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_seconds(name: str, seconds: float | None) -> None:
    """
    A time, finite or not; None: there is none.

    Raises:
        TypeError: it is not a number.
        ValueError: it is NaN.
    """
    if seconds is not None and not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} must be {SECONDS}, not {reprlib.repr(seconds)}")
    if seconds is not None and math.isnan(seconds):
        raise ValueError(f"{name} must be {SECONDS}, not nan")
