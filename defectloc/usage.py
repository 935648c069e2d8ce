"""What `--help` prints: the commands, and of each the keys with their values and meaning."""

import sys
from enum import EnumType
from typing import Any, get_args

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from defectloc import config

COMMANDS = {
    "train": "fit one fold, predict, localise, score",
    "tune": "search settings on inner folds",
    "localize": "make boxes and scores of a finished run with other settings",
    "evaluate": "score heat maps made elsewhere",
    "predict": "predict new images with a finished run",
    "explain": "make maps by other methods; compare them",
    "summarize": "compare all runs: mean and sd over folds",
    "report": "write a run as one HTML page, or an index of all runs",
    "export": "export a run as a model that runs without PyTorch",
    "annotate": "write boxes for an annotation tool, to be corrected",
    "track": "log finished runs to an experiment tracker",
    "overview": "describe a data set before training",
    "cache": "list what the feature store holds; prune it",
    "benchmark": "measure speed, side by side",
    "fetch": "get a data set",
}


def of_all() -> str:
    """List the commands."""
    rows = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    return f"usage: defectloc COMMAND [key=value ...]\n\n{rows}\n\ndefectloc COMMAND --help shows its keys."


def show(name: str, overrides: list[str]) -> None:
    """Print the keys of a command with the values that the overrides give, of the chosen data source only."""
    with initialize_config_dir(version_base="1.3", config_dir=str(config.directory())):
        composed = compose(name, overrides, return_hydra_config=True)
    print(f"usage: defectloc {name} [key=value ...] [-m]\n\n{COMMANDS[name]}; -m sweeps over comma-separated values.\n")
    for group in sorted(composed.hydra.runtime.choices):
        options = sorted(path.stem for path in (config.directory() / group).glob("*.yaml"))
        if group == "model":
            options = [each for each in options if (each == "torchvision") == (name == "explain")]
        # How Hydra itself works is of no command.
        if not group.startswith("hydra/"):
            print(f"  {group}={'|'.join(options)}")
    source = str(OmegaConf.select(composed, "data.name", default="")) if "data" in composed else ""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("value", overflow="fold", max_width=40)
    table.add_column("meaning", overflow="fold")
    for key, each in config.leaves(config.SETTINGS[name]).items():
        sources = each.metadata.get("sources")
        if sources and source not in sources:
            continue
        table.add_row(key, _value(composed, key), f"{_choices(each.type)}{each.metadata.get('help', '')}")
    print()
    Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False).print(table)


def _value(composed: Any, key: str) -> str:
    if OmegaConf.is_missing(composed, key) or any(
        OmegaConf.is_missing(composed, key.rsplit(".", n)[0]) for n in range(1, key.count(".") + 1)
    ):
        return "(required)"
    value = OmegaConf.select(composed, key)
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _choices(kind: Any) -> str:
    for each in (kind, *get_args(kind)):
        if isinstance(each, EnumType):
            return f"{' | '.join(each.__members__)}; "
    return ""
