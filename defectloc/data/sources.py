"""The five sources of images; each gives a root folder and a catalog below it."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from defectloc.config import DataConfig
from defectloc.data import catalog as catalogs
from defectloc.data import synthetic
from defectloc.data.images import find_images, is_image_name
from defectloc.errors import DefectlocError

GOOD_NAMES = ("good", "ok", "negative", "normal", "non-defective")
DEFECTIVE_NAMES = ("defective", "bad", "ng", "positive", "anomaly", "defect", "not-good")
# Split folders of a data set that is already divided.
SPLITS = ("train", "test")


def load(data: DataConfig, subset: str) -> tuple[Path, pd.DataFrame]:
    """Read the catalog of a source; paths in it are relative to the root that is returned with it.

    Raises DefectlocError where the data is not there or not as it should be.
    """
    readers = {"mvtec": _mvtec, "folder": _folder, "csv": _csv, "elpv": _elpv, "synthetic": _synthetic}
    if data.name not in readers:
        raise DefectlocError(f"data={data.name} is not known; choose one of {', '.join(readers)}.")
    root, rows = readers[data.name](data, subset)
    catalog = catalogs.build(rows, root, f"data={data.name} subset={subset}")
    if data.group is not None:
        catalog = _with_groups(catalog, data.group)
    if data.limit is not None:
        catalog = catalogs.draw(catalog, data.limit, data.split_seed)
    return root, catalog


def _existing_root(data: DataConfig) -> Path:
    if data.root is None:
        raise DefectlocError(f"data={data.name} needs data.root=FOLDER.")
    root = Path(data.root).expanduser().absolute()
    if not root.is_dir():
        raise DefectlocError(
            f"data.root={data.root} does not exist; give the folder of the data set, get it with "
            "'defectloc fetch data=mvtec subset=NAME', use your own two folders with data=folder, "
            "or try data=synthetic, which needs no files."
        )
    return root


def _mvtec(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    root = _existing_root(data)
    folder = root / subset
    if not (folder / "train").is_dir() or not (folder / "test").is_dir():
        found = sorted(p.name for p in root.iterdir() if (p / "train").is_dir() and (p / "test").is_dir())
        there = f"there are {', '.join(found)}" if found else "no folder there holds train/ and test/"
        raise DefectlocError(f"subset={subset} is not below data.root={data.root}; {there}.")
    rows = []
    for split in SPLITS:
        for path in find_images(folder / split):
            defect_type = path.relative_to(folder / split).parts[0]
            row = {
                "path": path.relative_to(root).as_posix(),
                "label": int(defect_type != catalogs.GOOD),
                "defect_type": defect_type,
                "official_split": split,
            }
            if row["label"]:
                row["mask_path"] = _mask(folder / "ground_truth" / defect_type, path.stem, root)
            rows.append(row)
    return root, rows


def _mask(folder: Path, stem: str, root: Path) -> str | None:
    """Find the mask of an image by its stem, never by its place in a list."""
    for name in (f"{stem}_mask", stem):
        for candidate in sorted(folder.glob("*")):
            if candidate.stem == name and is_image_name(candidate):
                return candidate.relative_to(root).as_posix()
    return None


def _folder(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    if data.root is not None:
        root = _existing_root(data)
    elif data.good and data.defective:
        good, defective = (Path(p).expanduser().absolute() for p in (data.good, data.defective))
        root = Path(*[a for a, b in zip(good.parts, defective.parts, strict=False) if a == b])
        # The common beginning of two paths is a prefix only up to the first difference.
        while not (good.is_relative_to(root) and defective.is_relative_to(root)):
            root = root.parent
    else:
        raise DefectlocError(
            "data=folder needs data.good=FOLDER and data.defective=FOLDER, or data.root=FOLDER with both inside."
        )
    masks = None if data.masks is None else Path(data.masks).expanduser().absolute()
    if masks is not None and not masks.is_dir():
        raise DefectlocError(f"data.masks={data.masks} does not exist.")
    if masks is not None and not masks.is_relative_to(root):
        raise DefectlocError(f"data.masks={data.masks} must lie below {root}, as the images do.")
    bases: list[tuple[str | None, Path]]
    bases = [(split, root / split) for split in SPLITS if (root / split).is_dir()] if data.root else []
    rows = []
    for split, base in bases or [(None, root)]:
        for label, typed, names in ((0, data.good, GOOD_NAMES), (1, data.defective, DEFECTIVE_NAMES)):
            folder = _class_folder(base, typed, names, data)
            rows += list(_class_rows(folder, label, split, root, masks))
    return root, rows


def _class_folder(base: Path, typed: str | None, names: tuple[str, ...], data: DataConfig) -> Path:
    if typed is not None:
        folder = base / Path(typed).expanduser() if data.root else Path(typed).expanduser().absolute()
        if not folder.is_dir():
            raise DefectlocError(f"the folder {folder} does not exist; check data.good and data.defective.")
        return folder
    found = [p for p in sorted(base.iterdir()) if p.is_dir() and p.name.lower().replace("_", "-") in names]
    if len(found) != 1:
        raise DefectlocError(
            f"{base} holds {len(found)} folders that are named as one of {', '.join(names)}; "
            "say which are meant with data.good=NAME and data.defective=NAME."
        )
    return found[0]


def _class_rows(folder: Path, label: int, split: str | None, root: Path, masks: Path | None) -> Iterator[dict]:
    if not find_images(folder):
        raise DefectlocError(f"{folder} holds no images (PNG, JPEG, BMP or TIFF).")
    for path in find_images(folder):
        inner = path.relative_to(folder).parts
        row = {"path": path.relative_to(root).as_posix(), "label": label, "official_split": split}
        if label:
            # A folder inside the folder of defects names the type of defect.
            row["defect_type"] = inner[0] if len(inner) > 1 else "defective"
            if masks is not None:
                row["mask_path"] = _mask(masks.joinpath(*inner[:-1]), path.stem, root)
        yield row


def _csv(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    if data.table is None:
        raise DefectlocError("data=csv needs data.table=FILE.")
    path = Path(data.table).expanduser().absolute()
    try:
        table = pd.read_csv(path, dtype={"path": str, "mask_path": str, "defect_type": str, "group": str})
    except FileNotFoundError as error:
        raise DefectlocError(f"data.table={data.table} does not exist.") from error
    except (ValueError, OSError) as error:
        raise DefectlocError(f"data.table={data.table} cannot be read as a CSV table: {error}.") from error
    for column in ("path", "label"):
        if column not in table:
            raise DefectlocError(f"data.table={data.table} has no column '{column}'; it has {', '.join(table)}.")
    if table["path"].isna().any():
        raise DefectlocError(f"data.table={data.table} has no path in row {table['path'].isna().idxmax() + 1}.")
    root = path.parent if data.root is None else _existing_root(data)
    for name in [*table["path"].dropna(), *table.get("mask_path", pd.Series(dtype=str)).dropna()]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DefectlocError(f"data.table={data.table}: {name} must be relative to {root} and stay below it.")
    return root, table.to_dict("records")


def _elpv(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    if data.root is None:
        # Only the files of the package are used; none of its code is run.
        found = importlib.util.find_spec("elpv_dataset")
        if found is None or found.origin is None:
            raise DefectlocError("data=elpv needs the package elpv-dataset: pip install 'defectloc[demo]'.")
        root = Path(found.origin).parent / "data"
    else:
        root = _existing_root(data)
    table = root / "labels.csv"
    if not table.is_file():
        raise DefectlocError(f"{table} does not exist; data.root must be the folder of ELPV that holds labels.csv.")
    with table.open(encoding="utf-8") as file:
        cells = [line.split() for line in file if line.strip()]
    kinds = sorted({kind for _, _, kind in cells})
    if subset not in kinds:
        raise DefectlocError(f"subset={subset} is not in ELPV; there are {', '.join(kinds)}.")
    rows = []
    for name, text, kind in cells:
        probability = float(text)
        if kind == subset and abs(2 * probability - 1) >= data.min_confidence - 1e-9:
            rows.append({"path": name, "label": int(probability > 0.5)})
    return root, rows


def _synthetic(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    root = synthetic.draw(
        Path(data.root or "outputs/.synthetic").expanduser().absolute(),
        subset,
        seed=data.draw_seed,
        n_good=data.n_good,
        n_test_good=data.n_test_good,
        n_per_type=data.n_per_type,
        size=data.draw_size,
    )
    return _mvtec(DataConfig(name="mvtec", root=str(root)), subset)


def _with_groups(catalog: pd.DataFrame, group: str) -> pd.DataFrame:
    """Fill the column `group` from another column, or from what a regular expression finds in the path."""
    if group in catalog.columns:
        values = catalog[group]
        if values.isna().any():
            raise DefectlocError(
                f"data.group={group}: the column has no value for {catalog['path'][values.isna().idxmax()]}."
            )
        return catalog.assign(group=values.astype(str))
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DefectlocError(f"data.group={group} is neither a column nor a regular expression ({error}).") from error
    number = min(pattern.groups, 1)
    # A group of the expression that may be left out gives None as well.
    found = catalog["path"].map(lambda path: match[number] if (match := pattern.search(path)) else None)
    if found.isna().any():
        raise DefectlocError(f"data.group={group} finds nothing in {catalog['path'][found.isna().idxmax()]}.")
    return catalog.assign(group=found)
