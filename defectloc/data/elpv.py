"""The table of ELPV, electroluminescence photographs of solar cells (Deitsch et al. 2019)."""

from pathlib import Path

from defectloc.errors import DefectlocError


def read_cells(table: Path) -> list[tuple[str, float, str]]:
    """Read path, probability of a defect and kind of each cell; raises DefectlocError for a table that is not so."""
    try:
        lines = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DefectlocError(f"{table} cannot be read ({error}).") from error
    cells = []
    for number, line in enumerate(lines, 1):
        try:
            name, text, kind = line
            probability = float(text)
        except ValueError as error:
            raise DefectlocError(f"{table}: row {number} is not a path, a probability and a kind of cell.") from error
        if not 0 <= probability <= 1:
            raise DefectlocError(f"{table}: the probability {text} of {name} must lie in [0, 1].")
        cells.append((name, probability, kind))
    return cells
