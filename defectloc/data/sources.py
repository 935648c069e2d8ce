"""The five sources of images; each gives a root folder and a catalog below it."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from defectloc.config import DataConfig, Source
from defectloc.data import catalog as catalogs
from defectloc.data import splits
from defectloc.data.digests import Digests
from defectloc.data.elpv import read_cells
from defectloc.data.images import find_images
from defectloc.data.masks import MaskFiles
from defectloc.data.synthetic import generation
from defectloc.data.unread import note_unread
from defectloc.errors import DefectlocError
from defectloc.notes import say_once

GOOD_NAMES = ("good", "ok", "negative", "normal", "non-defective")
DEFECTIVE_NAMES = ("defective", "bad", "ng", "positive", "anomaly", "defect", "not-good")
# Columns of a table that are text, also where they look like numbers.
_TEXTS = {"path": str, "mask_path": str, "defect_type": str, "official_split": str, "group": str}
# Split folders of a data set that is already divided.
SPLITS = ("train", "test")


def load(data: DataConfig, subset: str, digests: Digests) -> tuple[Path, pd.DataFrame]:
    """Read the catalog of the images that a run uses; paths in it are relative to the root that is returned with it.

    Images of equal bytes belong to one group. Raises DefectlocError where the data is not there or not as it should be.
    """
    root, whole = load_whole(data, subset, digests)
    return root, used(whole, data, subset)


def load_whole(data: DataConfig, subset: str, digests: Digests) -> tuple[Path, pd.DataFrame]:
    """Read the catalog of a source, of all its images, and the root of its paths; raises DefectlocError as `load`."""
    readers = {"mvtec": _mvtec, "folder": _folder, "csv": _csv, "elpv": _elpv, "synthetic": _synthetic}
    if data.name not in readers:
        raise DefectlocError(f"data={data.name} is not known; choose one of {', '.join(readers)}.")
    root, rows = readers[data.name](data, subset)
    catalog = catalogs.build(rows, root, _what(data, subset), digests, data.group)
    return root, catalog if data.group is None else catalogs.with_groups(catalog, data.group)


def used(whole: pd.DataFrame, data: DataConfig, subset: str) -> pd.DataFrame:
    """Give the rows of a whole catalog that `data.limit` and `data.within_fold` leave; copies belong to one group."""
    catalog = whole if data.limit is None else catalogs.sample(whole, data.limit, data.split_seed)
    return splits.within(catalogs.join_copies(catalog, _what(data, subset)), data)


def _what(data: DataConfig, subset: str) -> str:
    return f"data={data.name} subset={subset}"


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
    masks, rows = MaskFiles(folder / "ground_truth", root), []
    for split in SPLITS:
        for path in find_images(folder / split):
            inner = path.relative_to(folder / split)
            if len(inner.parts) < 2:
                raise DefectlocError(f"{path} lies in no folder that names its type of defect; move or remove it.")
            label = int(inner.parts[0].lower() not in GOOD_NAMES)
            rows.append(
                {
                    "path": path.relative_to(root).as_posix(),
                    "label": label,
                    "defect_type": inner.parts[0] if label else catalogs.GOOD,
                    "official_split": split,
                    "mask_path": masks.of(inner) if label else None,
                }
            )
    return root, rows


def _folder(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    if data.root is not None:
        root = _existing_root(data)
    elif data.good and data.defective:
        good, defective = (Path(p).expanduser().absolute() for p in (data.good, data.defective))
        if good.resolve() == defective.resolve():
            raise DefectlocError(f"data.good and data.defective are one folder, {good}.")
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
    masks_of = None if masks is None else MaskFiles(masks, root)
    bases: list[tuple[str | None, Path]]
    bases = [(split, root / split) for split in SPLITS if (root / split).is_dir()] if data.root else []
    rows, known = [], [] if masks is None else [masks]
    for split, base in bases or [(None, root)]:
        for label, typed, names in ((0, data.good, GOOD_NAMES), (1, data.defective, DEFECTIVE_NAMES)):
            known.append(_class_folder(base, typed, names, data))
            rows += list(_class_rows(known[-1], label, split, root, masks_of))
    if data.root:
        # Names that were typed are a choice among those beside them, but not among train/, val/ and test/.
        chosen = data.good and data.defective
        note_unread([*([root] if bases or not chosen else []), *(base for _, base in bases if not chosen)], known)
    # A folder of masks inside a folder of images holds no images.
    rows = [row for row in rows if masks is None or not (root / row["path"]).is_relative_to(masks)]
    if masks is not None and not any(row.get("mask_path") for row in rows):
        say_once(
            f"no masks {masks}", f"no image has a mask in data.masks={data.masks}; a mask has the name of its image."
        )
    return root, rows


def _class_folder(base: Path, typed: str | None, names: tuple[str, ...], data: DataConfig) -> Path:
    if typed is not None:
        folder = base / Path(typed).expanduser() if data.root else Path(typed).expanduser().absolute()
        if folder.is_file():
            raise DefectlocError(f"{folder} is a file, not a folder of images; unpack an archive first.")
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


def _class_rows(folder: Path, label: int, split: str | None, root: Path, masks: MaskFiles | None) -> Iterator[dict]:
    found = find_images(folder)
    if not found:
        raise DefectlocError(f"{folder} holds no images (PNG, JPEG, BMP or TIFF).")
    for path in found:
        inner = path.relative_to(folder).parts
        row = {"path": path.relative_to(root).as_posix(), "label": label, "official_split": split}
        if label:
            # A folder inside the folder of defects names the type of defect.
            row["defect_type"] = inner[0] if len(inner) > 1 else "defective"
            if masks is not None:
                name = path.relative_to(folder)
                # Divided data repeats its names on both sides.
                row["mask_path"] = (split and masks.of(split / name)) or masks.of(name)
        yield row


def _csv(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    if data.table is None:
        raise DefectlocError("data=csv needs data.table=FILE.")
    path = Path(data.table).expanduser().absolute()
    # Numbers of parts are names as well: 007 is not 7.
    texts = _TEXTS if data.group in (None, "label") else _TEXTS | {str(data.group): str}
    try:
        # Without index_col=False a comma at the end of each line would shift all columns by one.
        table = pd.read_csv(path, dtype=texts, index_col=False)
    except FileNotFoundError as error:
        raise DefectlocError(f"data.table={data.table} does not exist.") from error
    except (ValueError, OSError) as error:
        raise DefectlocError(f"data.table={data.table} cannot be read as a CSV table: {error}.") from error
    for column in ("path", "label"):
        if column not in table:
            raise DefectlocError(f"data.table={data.table} has no column '{column}'; it has {', '.join(table)}.")
    for column in ("mask", "masks"):
        if column in table and "mask_path" not in table:
            say_once(
                f"column {column} of {path}",
                f"data.table={data.table} has a column '{column}', which is not read; masks are named in 'mask_path'.",
            )
    if table["path"].isna().any():
        raise DefectlocError(f"data.table={data.table} has no path in row {table['path'].isna().idxmax() + 1}.")
    root = path.parent if data.root is None else _existing_root(data)
    for column in ("path", "mask_path"):
        if column in table:
            table[column] = table[column].map(lambda name: _below(name, root, f"data.table={data.table}"), "ignore")
    return root, table.to_dict("records")


def _below(name: str, root: Path, what: str) -> str:
    """Return a relative path in one spelling, so that `a.png` and `./a.png` are the same image."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DefectlocError(f"{what}: {name} must be relative to {root} and stay below it.")
    return PurePosixPath(name).as_posix()


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
    cells = read_cells(table)
    kinds = sorted({kind for _, _, kind in cells})
    if subset not in kinds:
        raise DefectlocError(f"subset={subset} is not in ELPV; there are {', '.join(kinds)}.")
    rows = []
    for name, probability, kind in cells:
        if kind == subset and abs(2 * probability - 1) >= data.min_confidence - 1e-9:
            rows.append({"path": _below(name, root, str(table)), "label": int(probability > 0.5)})
    return root, rows


def _synthetic(data: DataConfig, subset: str) -> tuple[Path, list[dict]]:
    root = generation.generate(
        Path(data.root or "outputs/.synthetic").expanduser().absolute(),
        subset,
        seed=data.synthetic_seed,
        n_good=data.n_good,
        n_test_good=data.n_test_good,
        n_per_type=data.n_per_type,
        size=data.synthetic_size,
    )
    return _mvtec(DataConfig(name=Source.mvtec, root=str(root)), subset)
