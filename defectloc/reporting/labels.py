"""Labels of settings: what a row of a summary was made with, as far as it tells rows apart."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Settings = Mapping[str, Any]

# Sections whose keys are known by their own name; those of others come with the section's.
PLAIN_SECTIONS = ("data", "model", "training")
DECIDED_BY, DECIDED_AT = "decision.threshold_from", "decision.threshold"
# Follows from `data.image_size` and the photographs; a label that names no experiment shows it.
INPUT = "image_size"
# Of equal settings nothing else differs than where they ran and how fast.
IGNORED = frozenset(
    (
        "subset",
        "fold",
        "outputs",
        "output",
        "experiment",
        "figures",
        "device",
        "threads",
        "data.root",
        "data.url",
        "data.sha256",
        "data.keep_archive",
        "features.batch_size",
        "features.limit_gb",
        "features.workers",
    )
)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested settings as one level, such as `training.epochs`."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def labels(rows: Sequence[Settings], groups: Sequence[str], experiments: Mapping[str, Settings]) -> list[str]:
    """Label flat settings so that no two different ones of a group (a subset) have equal labels.

    A label is the name of the experiment, only where a row has all of its values, or else network, size and
    localization; then every other key whose value differs within some group, and what a row that was started as an
    experiment has otherwise. `experiments` gives the values of each by its name.
    """
    differing = _differing(rows, groups)
    # What is nothing goes without saying.
    return [_label(row, [key for key in differing if row.get(key) is not None], experiments) for row in rows]


def _differing(rows: Sequence[Settings], groups: Sequence[str]) -> list[str]:
    """List the keys with several values within a group, in the settings' order; none at all is a value, too."""
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in (*IGNORED, INPUT)]
    seen: dict[tuple[str, str], set[str | None]] = {}
    for row, group in zip(rows, groups, strict=True):
        for key in keys:
            seen.setdefault((group, key), set()).add(_text(row[key]) if key in row else None)
    several = {key for (_, key), values in seen.items() if len(values) > 1}
    return [key for key in keys if key in several]


def _label(row: Settings, differing: Sequence[str], experiments: Mapping[str, Settings]) -> str:
    name = row.get("experiment")
    values = experiments.get(str(name), {})
    otherwise = [key for key, value in values.items() if _text(row.get(key)) != _text(value)]
    if values and not otherwise:
        base, shown = str(name), set(values)
    else:
        base, shown = _base(row)
    if DECIDED_BY in differing and DECIDED_BY not in shown and _text(row.get(DECIDED_BY)) == "fixed":
        # The choice and its value as one.
        shown = {*shown, DECIDED_BY, DECIDED_AT}
        base += f", decision threshold {_text(row.get(DECIDED_AT))}"
    more = [key for key in dict.fromkeys([*otherwise, *differing]) if key in row and key not in shown]
    return ", ".join([base, *(f"{_name(key)} {_text(row[key])}" for key in more)])


def _base(row: Settings) -> tuple[str, set[str]]:
    """Give network, size and localization in words, and the keys that these show."""
    shown = {"model.name", "data.image_size", "decision.score"}
    shown |= {f"localization.{key}" for key in ("map", "normalization", "threshold_from", "boxes", "min_peak")}
    fixed = _text(row["localization.threshold_from"]) == "fixed"
    shown |= {"localization.threshold"} if fixed else set()
    threshold = _text(row["localization.threshold"]) if fixed else f"from {_text(row['localization.threshold_from'])}"
    peak = row.get("localization.min_peak")
    normalization = _text(row["localization.normalization"])
    scaled = "" if normalization == "none" else f"normalization {normalization}, "
    above = "" if peak is None else f", min peak {_text(peak)}"
    boxes = _text(row["localization.boxes"])
    where = f"{_text(row['localization.map'])} map ({scaled}threshold {threshold}{above}, boxes {boxes})"
    score = _text(row["decision.score"])
    decided = "" if score == "class" else f", decision by {score}"
    # Tiles are squares of that side; what is seen whole has the photographs' aspect.
    whole = _text(row.get("data.tiles", "none")) == "none"
    size = row.get(INPUT, row["data.image_size"]) if whole else row["data.image_size"]
    network = f"{_text(row['model.name'])} {_text(size)} px"
    if row.get("training.epochs") == 0:
        network += " without class network"
        shown.add("training.epochs")
    return f"{network}, {where}{decided}", shown


def parts(label: str) -> list[str]:
    """Take a label apart at its commas, but for those within brackets."""
    return re.split(r", (?![^(\[]*[)\]])", label)


def _name(key: str) -> str:
    section, _, leaf = key.rpartition(".")
    words = section if leaf == "name" else leaf if section in (*PLAIN_SECTIONS, "") else f"{section} {leaf}"
    return words.replace("_", " ").replace(".", " ")


def _text(value: Any) -> str:
    """Write a value as it is typed on the command line; 1 and 1.0 are one value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(int(value)) if float(value).is_integer() else str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_text(each) for each in value)}]"
    return str(value)
