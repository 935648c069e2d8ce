"""`defectloc overview`: tables and a figure of a data set."""

from pathlib import Path

from defectloc.config import DataConfig, DataSettings
from defectloc.overview import run
from tests.conftest import write_image


def test_tables_and_figure(tmp_path, capsys):
    for label in ("good", "defective"):
        for n in range(3):
            write_image(tmp_path / "data" / label / f"{n}.png", seed=n + 10 * len(label))
    data = DataConfig(
        name="folder", good=str(tmp_path / "data" / "good"), defective=str(tmp_path / "data" / "defective")
    )
    outputs = tmp_path / "outputs"
    found = run(DataSettings(outputs=str(outputs), subset="part", data=data))
    out = capsys.readouterr().out
    assert list(found.counts["images"]) == [3, 3]
    assert found.advice in out
    assert "RGB 40x40" in out
    assert Path(out.splitlines()[-1].removeprefix("figure: ")) == outputs / "part" / "overview.png"
    assert (outputs / "part" / "overview.png").stat().st_size > 1000
