"""CSV, JSON and NPZ files that a program can open and yet not use: parts missing, of another type, out of range."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator

# JSON texts, since not all of them can be written from Python.
ODD_VALUES = ("null", "-1", "1e308", "NaN", "-Infinity", '""', '"text"', "[]", "{}", "true", "1.5", "[[[]]]", '"../x"')
ODD_CELLS = (
    "",
    "nan",
    "-1",
    "2",
    "1e999",
    "text",
    "../../outside.png",
    "/etc/hostname",
    "good,defective",
    "0x1",
    "ä\0",
)


def without_a_column(content: bytes, random: Generator) -> bytes:
    table = _table(content)
    return _csv(table.drop(columns=table.columns[int(random.integers(len(table.columns)))]))


def renamed_column(content: bytes, random: Generator) -> bytes:
    table = _table(content)
    name = table.columns[int(random.integers(len(table.columns)))]
    return _csv(table.rename(columns={name: f" {name}s"}))


def header_alone(content: bytes, random: Generator) -> bytes:
    return content.splitlines(keepends=True)[0]


def odd_cell(content: bytes, random: Generator) -> bytes:
    """Replace a cell; an image may then be missing, outside the data set or of a label that is none."""
    table = _table(content)
    if len(table):
        row, column = int(random.integers(len(table))), int(random.integers(len(table.columns)))
        table.iloc[row, column] = ODD_CELLS[int(random.integers(len(ODD_CELLS)))]
    return _csv(table)


def repeated_row(content: bytes, random: Generator) -> bytes:
    table = _table(content)
    return _csv(pd.concat([table, table.iloc[[int(random.integers(len(table)))]]]) if len(table) else table)


def ragged_row(content: bytes, random: Generator) -> bytes:
    """Give a row more cells than the header has."""
    lines = content.splitlines(keepends=True)
    place = int(random.integers(len(lines)))
    return b"".join([*lines[:place], lines[place].rstrip(b"\r\n") + b",1,2\n", *lines[place + 1 :]])


def open_quote(content: bytes, random: Generator) -> bytes:
    place = int(random.integers(len(content) + 1))
    return content[:place] + b'"' + content[place:]


def semicolons(content: bytes, random: Generator) -> bytes:
    """Separate as a spreadsheet in a German or French office does."""
    return content.replace(b",", b";")


def utf_16(content: bytes, random: Generator) -> bytes:
    return content.decode("utf-8").encode("utf-16")


def odd_value(content: bytes, random: Generator) -> bytes:
    """Replace any node of a JSON tree, the root included, by a value of another kind."""
    tree = json.loads(content)
    places = list(_places(tree))
    parent, key = places[int(random.integers(len(places)))]
    odd = ODD_VALUES[int(random.integers(len(ODD_VALUES)))]
    if parent is None:
        return odd.encode()
    parent[key] = "<odd>"
    return json.dumps(tree).replace('"<odd>"', odd).encode()


def without_a_node(content: bytes, random: Generator) -> bytes:
    """Remove a key or an item of a JSON tree."""
    tree = json.loads(content)
    places = [place for place in _places(tree) if place[0] is not None]
    if places:
        parent, key = places[int(random.integers(len(places)))]
        del parent[key]
    return json.dumps(tree).encode()


def deep_nesting(content: bytes, random: Generator) -> bytes:
    """Give so many brackets that a recursive parser ends."""
    return b"[" * 100_000 + b"]" * 100_000


def odd_annotation(content: bytes, random: Generator) -> bytes:
    """Make one annotation of a COCO file impossible; a file without annotations gets one of an unknown image."""
    tree = json.loads(content)
    annotations = tree.setdefault("annotations", [])
    if not annotations:
        annotations.append({"id": 1, "image_id": -7, "category_id": 1, "bbox": [0, 0, 1, 1]})
    odd: list[dict[str, Any]] = [
        {"bbox": [5, 5, -3, 2]},
        {"bbox": [0, 0, 1e9, 1e9]},
        {"bbox": [1, 2, 3]},
        {"bbox": [float("nan")] * 4},
        {"image_id": -7},
        {"image_id": "first"},
        {"category_id": -7},
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": [[1, 2, 3, "x", 5, 6]]},
        {"segmentation": {"size": [3, 3], "counts": [1, 2]}},
        {"segmentation": {"size": [-1, 3], "counts": "abc"}},
    ]
    annotations[int(random.integers(len(annotations)))].update(odd[int(random.integers(len(odd)))])
    return json.dumps(tree).encode()


def without_an_array(content: bytes, random: Generator) -> bytes:
    arrays = _arrays(content)
    arrays.pop(_any(arrays, random), None)
    return _npz(arrays)


def renamed_array(content: bytes, random: Generator) -> bytes:
    arrays = _arrays(content)
    name = _any(arrays, random)
    arrays[f"{name}_"] = arrays.pop(name)
    return _npz(arrays)


def other_shape(content: bytes, random: Generator) -> bytes:
    """Drop the last entry of an array, or its first axis."""
    arrays = _arrays(content)
    name = _any(arrays, random)
    found = arrays[name]
    arrays[name] = found[:-1] if random.random() < 0.5 and found.ndim else np.zeros(3, found.dtype)
    return _npz(arrays)


def other_dtype(content: bytes, random: Generator) -> bytes:
    """Turn an array into text or complex numbers."""
    arrays = _arrays(content)
    name = _any(arrays, random)
    text = arrays[name].dtype.kind != "U" and random.random() < 0.5
    arrays[name] = arrays[name].astype("U8") if text else np.zeros(arrays[name].shape, np.complex64)
    return _npz(arrays)


def pickled_array(content: bytes, random: Generator) -> bytes:
    """Turn an array into one of Python objects, which only a careless reader unpickles."""
    arrays = _arrays(content)
    name = _any(arrays, random)
    arrays[name] = np.array([{"not": "a number"}, None], dtype=object)
    return _npz(arrays)


def not_finite(content: bytes, random: Generator) -> bytes:
    """Put a NaN or an infinity into an array of floating-point numbers, where there is one."""
    arrays = _arrays(content)
    for found in arrays.values():
        if found.dtype.kind == "f" and found.size:
            found.flat[int(random.integers(found.size))] = (np.nan, np.inf, -np.inf)[int(random.integers(3))]
    return _npz(arrays)


def _table(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """List the nodes of a JSON tree, each as its parent and the key in it; the root has no parent."""
    yield None, None
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
            yield node, key
            if isinstance(child, dict | list):
                waiting.append(child)


def _any(arrays: dict[str, np.ndarray], random: Generator) -> str:
    return sorted(arrays)[int(random.integers(len(arrays)))]


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
