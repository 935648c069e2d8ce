"""For each key of a configuration values of a wrong type, range and size, as a user would type them."""

from typing import Any

import numpy as np
from omegaconf import OmegaConf, SCMode

TYPES = ("text", "true", "null", "''", "{a: 1}", "[]", "[a, b]", "[[1]]", "1.5", "1e3")
RANGES = ("-1", "0", "1", "-0.5", "1.0000001", "1e308", "-1e308", "1e-308", "nan", "inf", "-inf", "9223372036854775808")
SIZES = (f"'{'x' * 5000}'", f"[{', '.join(['1'] * 1000)}]", "9" * 400, "'../../..'", "'a\tb'", "ü", "'a,b=c'")
VALUES = (*TYPES, *RANGES, *SIZES)


def keys(schema: type) -> list[str]:
    """List the leaf keys of a configuration's dataclass, with dots."""
    tree = OmegaConf.to_container(OmegaConf.structured(schema), resolve=False, structured_config_mode=SCMode.DICT)
    return sorted(_leaves(tree, ""))


def bad_values(schema: type, seed: int, n: int) -> list[str]:
    """Choose `n` overrides `key=value`, each key once before any comes twice; some values are right for some keys."""
    random, names, chosen = np.random.default_rng(seed), keys(schema), []
    while len(chosen) < n:
        chosen += [f"{name}={VALUES[int(random.integers(len(VALUES)))]}" for name in random.permutation(names)]
    return chosen[:n]


def _leaves(tree: Any, name: str) -> list[str]:
    if not isinstance(tree, dict) or not tree:
        return [name]
    return [leaf for key, child in tree.items() for leaf in _leaves(child, f"{name}.{key}" if name else str(key))]
