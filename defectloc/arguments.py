"""Arguments of a command line, made ready for Hydra's parser."""

import os
import re
from collections.abc import Sequence

PATH_KEYS = frozenset(
    (
        "run",
        "outputs",
        "output",
        "images",
        "maps",
        "masks",
        "root",
        "ignore_mask",
        "data.root",
        "data.good",
        "data.defective",
        "data.masks",
        "data.table",
        "data.ignore_mask",
        "data.annotations",
        "data.group",
        "model.weights",
        "document_root",
        "logger.uri",
        # of the feature store and of a fit: hexadecimal, of which the grammar would take 12e4 for a number
        "key",
        "fingerprint",
    )
)
# Hydra's flags that take a value.
VALUE_FLAGS = frozenset(
    (
        "-c",
        "--cfg",
        "-p",
        "--package",
        "-cp",
        "--config-path",
        "-cn",
        "--config-name",
        "-cd",
        "--config-dir",
        "-i",
        "--info",
    )
)


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Quote the values of path keys, so that Hydra's grammar leaves spaces, commas, brackets and quotes alone.

    `~` is expanded; a value that is already in quotes, `null`, and interpolations keep their meaning.
    """
    return [_quote(argument) for argument in arguments]


def _quote(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in PATH_KEYS or value in ("", "null", "???"):
        return argument
    quotes = ("'", '"')
    if len(value) > 1 and value[0] in quotes and value[-1] == value[0] and value[0] not in value[1:-1]:
        value = value[1:-1]
    value = os.path.expanduser(value)
    # In a quoted value of Hydra's grammar a backslash counts only before a quote (or before such a backslash).
    escaped = re.sub(r"(\\*)'", lambda m: m[1] * 2 + r"\'", value)
    escaped = re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped)
    return f"{key}='{escaped}'"


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Put flags before overrides, since Hydra's parser takes overrides in one place only."""
    flags: list[str] = []
    overrides: list[str] = []
    waiting = False
    for argument in arguments:
        takes_value = waiting and not argument.startswith("-") and "=" not in argument
        (flags if argument.startswith("-") or takes_value else overrides).append(argument)
        waiting = argument in VALUE_FLAGS
    return flags + overrides
