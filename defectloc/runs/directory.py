"""The files of a run directory: their names, what makes one whole, and how one is opened."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from defectloc.config import LocalizationConfig
from defectloc.data.images import sides_of
from defectloc.errors import DefectlocError
from defectloc.files import CHECKSUM, are_as_written, digest, digest_of, read_json
from defectloc.localization.decision import Decision
from defectloc.localization.localizer import Localizer
from defectloc.runs.products import Maps, Product, bank_folder, products_of, read_maps
from defectloc.runs.tables import (
    CATALOG,
    PREDICTIONS,
    are_of,
    read_catalog,
    read_decision,
    read_localizer,
    read_predictions,
)

FORMAT = 3
RECORD, CHECKPOINT, METRICS, LOCK = "run.json", "model.ckpt", "metrics.json", ".lock"
LOCALIZATION = "localization"


def fingerprint(parts: dict[str, Any]) -> str:
    """Hash all that a fit depends on, to 12 hexadecimal digits; equal for the folds of one setting."""
    return digest_of({"format": FORMAT, **parts})[:12]


def folder_of(outputs: str, subset: str, fold: int, fingerprint_: str) -> Path:
    """Name `outputs/<subset>/fold<k>-<fingerprint>`; raises DefectlocError for a subset that would leave `outputs`."""
    if subset in ("", ".", "..") or "/" in subset or "\\" in subset or subset.startswith("."):
        raise DefectlocError(f"subset={subset} cannot name a folder; use letters, digits, '-' and '_'.")
    return Path(outputs).expanduser() / subset / f"fold{fold}-{fingerprint_}"


@dataclass(frozen=True)
class Run:
    """A finished run; its tables and maps are read once."""

    folder: Path
    record: dict[str, Any]
    _read: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    # What `train` was last asked for, where that is not to be read again.
    _pinned: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Open a run directory; raises DefectlocError where it is none, half-finished or of another version."""
        folder = Path(folder).expanduser()
        if folder.is_file():
            raise DefectlocError(f"run={folder} is a file; give the folder of a run.")
        if not folder.is_dir():
            raise DefectlocError(f"run={folder} does not exist{_others(folder.parent)}.")
        if not (folder / RECORD).is_file():
            raise DefectlocError(f"run={folder} is not the folder of a finished fit ({RECORD}){_others(folder)}.")
        record = read_json(folder / RECORD)
        if record is None or "format" not in record:
            raise DefectlocError(
                f"{folder / RECORD} cannot be read as the record of a run; start the same 'defectloc train' again."
            )
        if record["format"] != FORMAT:
            raise DefectlocError(
                f"run={folder} has format {record['format']}, this version reads {FORMAT}; fit it again."
            )
        for name in (CHECKPOINT, CATALOG, PREDICTIONS):
            if not (folder / name).is_file():
                raise DefectlocError(f"run={folder} is half-finished ({name} is missing); start its fit again.")
        if not are_as_written(folder, record.get("files", {})):
            raise DefectlocError(
                f"run={folder} was changed since its fit ({changed_file(folder, record['files'])}); start the same "
                "'defectloc train' again."
            )
        return cls(folder, record)

    @property
    def has_class_network(self) -> bool:
        """Tell whether a class network was fitted."""
        return bool(self.record["epochs"])

    def require_class_network(self) -> None:
        """Raise DefectlocError where no class network was fitted."""
        if not self.has_class_network:
            raise DefectlocError(
                f"run={self.folder} has no class network, so no class map and no class score: it was fitted without a "
                "defective image, with training.epochs=0 or a network of timm that has none; use localization=fusion."
            )

    def data_root(self, given: str | None) -> Path:
        """Give the folder of the data set, `given` or where it was last; raises DefectlocError where it is gone."""
        root = Path(self.record["root"] if given is None else given).expanduser()
        if not root.is_dir():
            where = "say where it is now with root=FOLDER" if given is None else "give another with root=FOLDER"
            raise DefectlocError(f"the data of run={self.folder} is not in {root}; {where}.")
        return root

    @property
    def image_size(self) -> tuple[int, int]:
        """Give height and width of the network's input in pixels."""
        return sides_of(self.record["image_size"])

    def catalog(self) -> pd.DataFrame:
        """Give `catalog.csv`: one row per image, with `split`, `height` and `width`."""
        if "catalog" not in self._read:
            self._read["catalog"] = read_catalog(self.folder)
        return self._read["catalog"]

    def images(self) -> pd.DataFrame:
        """Give the validation and test images: the columns of `predictions.csv`, `mask_path`, `height`, `width`."""
        if "images" not in self._read:
            predictions = read_predictions(self.folder)
            if not self._predictions_fit(predictions):
                raise DefectlocError(
                    f"{self.folder / PREDICTIONS} was changed or is damaged; start the same 'defectloc train' again."
                )
            catalog = self.catalog()[["path", "mask_path", "height", "width"]]
            self._read["images"] = predictions.merge(catalog, on="path", how="left")
        return self._read["images"]

    def _predictions_fit(self, predictions: pd.DataFrame) -> bool:
        """Tell whether the table is as it was written: of the images held out and their labels, by the catalog."""
        noted = [each for product in self.products("cam") if (each := product.note.get("predictions"))]
        if noted and digest(self.folder / PREDICTIONS) not in noted:
            return False
        # Without a class network nothing notes the digest.
        if not self.has_class_network and predictions["log_odds"].notna().any():
            return False
        return are_of(predictions, self.catalog())

    def products(self, kind: str) -> list[Product]:
        """List the whole map products of one kind."""
        return products_of(self.folder, kind)

    def product(self, kind: str) -> Product:
        """Find the product of a kind that `train` was last asked for.

        Raises DefectlocError where there is none, or where several are there and none of them was asked for last.
        """
        if kind == "cam":
            self.require_class_network()
        found = {product.name: product for product in self.products(kind)}
        last = self._asked_last().get("maps")
        if isinstance(last, dict) and last.get(kind) in found:
            return found[last[kind]]
        if not found:
            raise DefectlocError(
                f"run={self.folder} has no maps of localization.map={kind}; 'defectloc train' with that key makes them."
            )
        if len(found) > 1:
            raise DefectlocError(
                f"run={self.folder} has several maps of localization.map={kind} ({', '.join(sorted(found))}); repeat "
                "'defectloc train' with the setting that is meant."
            )
        return next(iter(found.values()))

    def bank_of(self, fusion: Product) -> Product:
        """Find the memory bank that a fusion was made with; raises DefectlocError where it is not whole any more."""
        found = [product for product in self.products("memory") if product.folder == bank_folder(fusion)]
        if not found:
            raise DefectlocError(
                f"the memory bank of {fusion.folder} is gone or damaged; repeat the 'defectloc train' that made it."
            )
        return found[0]

    def maps(self, kind: str, product: Product | None = None) -> Maps:
        """Read the maps of one kind, of `product` or of the one that `train` was last asked for."""
        product = product or self.product(kind)
        if product.name not in self._read:
            self._read[product.name] = read_maps(product)
        return self._read[product.name]

    def pinned(self) -> "Run":
        """Give the run as it was last post-processed, whatever `train` is asked for while it is read."""
        return replace(self, _pinned=self._asked_last())

    def last_localization(self) -> Path | None:
        """Give the folder of the localization that `train` was last asked for; None before the first."""
        name = self._asked_last().get("localization")
        folder = self.folder / LOCALIZATION / str(name)
        return folder if name and whole_metrics(folder) is not None else None

    def _asked_last(self) -> dict[str, Any]:
        return (read_json(self.folder / METRICS) or {}) if self._pinned is None else self._pinned

    def decision(self) -> Decision | None:
        """Read how the run was last set to decide."""
        folder = self.last_localization()
        return None if folder is None else read_decision(folder)

    def localizer(self) -> Localizer | None:
        """Read how the run's map was last set to be cut into boxes."""
        folder = self.last_localization()
        return None if folder is None else read_localizer(folder)

    def localization_config(self) -> LocalizationConfig | None:
        """Read the keys `localization.*` that the run was last localised with."""
        folder = self.last_localization()
        if folder is None:
            return None
        given: Any = OmegaConf.load(folder / "config.yaml")
        typed: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(LocalizationConfig), given.localization))
        return typed


def whole_metrics(folder: Path) -> dict[str, Any] | None:
    """Read the metrics of a localization; None where they, or a file beside them, are not as they were written."""
    metrics = read_json(folder / METRICS)
    # An object without a checksum, such as an empty one, was not written here.
    return (
        metrics
        if metrics is not None and CHECKSUM in metrics and are_as_written(folder, metrics.get("files"))
        else None
    )


def _others(folder: Path) -> str:
    """Name the runs in a folder, as the end of a sentence."""
    names = sorted(path.parent.name for path in folder.glob(f"fold*/{RECORD}"))
    return f"; in {folder} are {', '.join(names)}" if names else ""


def changed_file(folder: Path, digests: dict[str, str]) -> str:
    """Name the first file that is not as it was written, of digests for which `are_as_written` is false."""
    return next(name for name, wanted in digests.items() if not are_as_written(folder, {name: wanted}))


def rows_of(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Give the rows of 'train', 'validation' or 'test'."""
    return table[table["split"] == split]
