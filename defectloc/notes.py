"""Remarks to people on standard error."""

import sys

_said: set[str] = set()


def say_once(subject: str, text: str) -> None:
    """Print a note unless this process has said one on the same subject."""
    if subject not in _said:
        _said.add(subject)
        print(f"note: {text}", file=sys.stderr)
