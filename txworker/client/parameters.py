"""What a caller gives: an error names the parameter, and shows the value unless that may be a secret."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

WHOLE_NUMBER = "a whole number"
SECONDS = "a number of seconds"
NAMES = "a mapping of strings to strings"
TRUE_OR_FALSE = "True or False"


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
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from error


def check_type(name: str, kind: str, value: object, *types: type) -> None:
    """Raises TypeError if the value is of none of these types; the other parameters are as in parameter()."""
    if not isinstance(value, types):
        raise TypeError(f"{name} must be {kind}, not {reprlib.repr(value)}")


def check_callable(name: str, value: object) -> None:
    """Raises TypeError if the value cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {reprlib.repr(value)}")


def check_seconds(name: str, seconds: float | None) -> None:
    """
    A time, finite or not; None: there is none.

    Raises:
        TypeError: it is not a number.
        ValueError: it is NaN, or too large for a float.
    """
    if seconds is None:
        return
    check_type(name, SECONDS, seconds, int, float)
    with parameter(name, SECONDS, seconds):
        is_nan = math.isnan(seconds)
    if is_nan:
        raise ValueError(f"{name} must be {SECONDS}, not nan")
