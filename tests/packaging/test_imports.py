"""Data flows one way: what a package may import, read from the imports themselves."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "defectloc"
# From left to right; a package imports only from those before it.
ORDER = [
    "base",
    "data",
    "features",
    "model",
    "localization",
    "evaluation",
    "attribution",
    "figures",
    "reporting",
    "inference",
    "deployment",
    "runs",
    "commands",
    "benchmarks",
]
BASE = {"__init__", "errors", "notes", "progress", "files", "config", "signals"}
# Installed by extras, or slow to import and used by one function.
OPTIONAL = {
    "albumentations",
    "captum",
    "mlflow",
    "onnx",
    "onnxruntime",
    "openvino",
    "optuna",
    "safetensors",
    "shap",
    "skimage",
    "sqlalchemy",
    "timm",
}
LONGEST = 250


def modules() -> dict[str, ast.Module]:
    """Each module of the package by its dotted name, parsed."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def place_of(name: str) -> str:
    """The package that a module belongs to; modules at the top level are base or commands."""
    first = name.split(".", maxsplit=1)[0]
    if "." in name:
        # Those of Hydra belong to the start of commands.
        return "commands" if first == "plugins" else first
    return "base" if name in BASE else "commands"


def for_types_only(tree: ast.AST) -> set[ast.AST]:
    """The imports below `if TYPE_CHECKING:`, which no interpreter carries out."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for inner in ast.walk(block)}


def imports_of(tree: ast.AST) -> set[str]:
    """The modules of defectloc that a module imports, by dotted name."""
    found = set()
    # The public API alone names the types of what it loads late.
    left_out = for_types_only(tree) if tree is MODULES["__init__"] else set()
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "defectloc":
            inner = node.module.removeprefix("defectloc").lstrip(".")
            for alias in node.names:
                whole = f"{inner}.{alias.name}".lstrip(".")
                found.add(whole if whole in MODULES or f"{whole}.__init__" in MODULES else inner or "__init__")
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("defectloc.") for a in node.names if a.name.startswith("defectloc.")}
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_left(name):
    own = ORDER.index(place_of(name))
    for imported in imports_of(MODULES[name]):
        assert ORDER.index(place_of(imported)) <= own, f"{name} imports {imported}"


def test_no_import_circle():
    graph = {name: imports_of(tree) & MODULES.keys() for name, tree in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("name", MODULES)
def test_imports_stand_at_the_top_but_for_optional_packages(name):
    for function in ast.walk(MODULES[name]):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            for each in imported:
                assert each.split(".")[0] in OPTIONAL, f"{name}.{function.name} imports {each}"


@pytest.mark.parametrize("name", [name for name in MODULES if place_of(name) in ("localization", "evaluation")])
def test_no_torch_in_post_processing(name):
    text = ast.dump(MODULES[name])
    assert "'torch" not in text


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name):
    lines = (PACKAGE / Path(*name.split("."))).with_suffix(".py").read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST or name == "config", f"{name} has {lines} lines"


def test_commands_are_not_imported_by_each_other():
    doors = {name for name in MODULES if place_of(name) == "commands"} - {
        "cli",
        "checks",
        "data_checks",
        "usage",
        "arguments",
        "launchers",
        "__main__",
    }
    for name in doors:
        assert not imports_of(MODULES[name]) & doors


def test_the_map_in_contributing_is_the_order_held_here():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = re.search(r"```\n(base ->.*?)```", text, re.DOTALL)
    assert drawn, "CONTRIBUTING.md shows the packages in a block that begins with 'base ->'"
    assert [name.strip() for name in drawn[1].replace("\n", " ").split("->")] == ORDER


def test_prediction_comes_without_lightning():
    """It takes more than a second to import, and only fits need it."""
    seen, waiting = set(), ["runs.predicting"]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        tree = MODULES[name]
        types_only = for_types_only(tree)
        carried_out = ast.Module([node for node in tree.body if node not in types_only], [])
        waiting += imports_of(carried_out)
        outside = {ast.unparse(node) for node in ast.walk(carried_out) if isinstance(node, ast.Import | ast.ImportFrom)}
        assert not [line for line in outside if "lightning" in line], name
    assert "runs.bank" in seen
