"""One setting of post-processing of a run: the maps it uses, and the folder addressed by all that it is made from."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from defectloc.config import DecisionConfig, LocalizationConfig, Upsampling
from defectloc.data.digests import Digests
from defectloc.evaluation.image import image_scores
from defectloc.evaluation.shortcut import is_suspicious
from defectloc.files import digest_of
from defectloc.localization import guided
from defectloc.localization.localizer import Localizer, ValidationMap
from defectloc.localization.scores import top_k_mean
from defectloc.runs import scoring
from defectloc.runs.directory import LOCALIZATION, Run, rows_of
from defectloc.runs.maps import RunMaps, truth_digest
from defectloc.runs.products import Product, stacked
from defectloc.runs.tables import read_novelty, read_shortcut_table

# Raised when the code changes what a localization holds.
VERSION = 8
CLASS = "class"


class Localization:
    """One setting of a run: which maps it uses, and the folder that is addressed by all that it is made from."""

    def __init__(
        self,
        run: Run,
        localization: LocalizationConfig,
        decision: DecisionConfig,
        root: Path | None = None,
        ignore_mask: str | None = None,
        products: dict[str, Product] | None = None,
    ) -> None:
        """`products`: the maps to use by kind; those that are not given are the ones `train` was last asked for."""
        self.run, self.localization, self.decision = run, localization, decision
        self.root = root or Path(run.record["root"])
        given = dict(products or {})
        kinds = {str(localization.map), *({str(decision.score)} - {CLASS})}
        if run.has_class_network:
            kinds.add("cam")
        elif decision.score == CLASS:
            run.require_class_network()
        self.products = {kind: given.get(kind) or run.product(kind) for kind in sorted(kinds)}
        if "fusion" in kinds:
            self.products["memory"] = run.bank_of(self.products["fusion"])
        digests = Digests(run.folder.parent.parent / ".digests")
        self.truth = truth_digest(run, self.root, ignore_mask, digests)
        self._ignore_mask = ignore_mask
        self.maps = self._maps_of(str(localization.map), localization.upsampling)

    @property
    def name(self) -> str:
        """Name the folder by a hash of settings, products, ground truth and code version."""
        made_from = {
            "version": [VERSION, scoring.VERSION, guided.VERSION],
            "localization": asdict(self.localization),
            "decision": asdict(self.decision),
            "maps": {kind: product.name for kind, product in self.products.items()},
            "truth": self.truth,
        }
        return f"{self.localization.map}-{digest_of(made_from)[:8]}"

    @property
    def folder(self) -> Path:
        """Give the folder."""
        return self.run.folder / LOCALIZATION / self.name

    @property
    def has_review_band(self) -> bool:
        """Tell whether images between two thresholds go to review."""
        return None not in (self.decision.max_escape_rate, self.decision.max_overkill_rate)

    def _maps_of(self, kind: str, upsampling: Upsampling | None = None) -> RunMaps:
        return RunMaps(self.run, kind, self.root, self._ignore_mask, self.products[kind], upsampling)

    def images(self) -> pd.DataFrame:
        """Give the held-out images, with what their score is made of, and their `novelty`, NaN where not known."""
        images, kind = self.run.images(), str(self.decision.score)
        if "memory" in self.products:
            images = images.merge(read_novelty(self.products["memory"].folder), on="path", how="left", validate="1:1")
        else:
            images = images.assign(novelty=np.nan)
        if kind == CLASS:
            return images
        return images.assign(map_score=top_k_mean(stacked(self.run.maps(kind, self.products[kind]), images)))

    def localizer(self) -> Localizer:
        """Fit the way from map to boxes on the validation split."""
        validation = self.maps.split("validation")

        def native() -> Iterator[ValidationMap]:
            for row in validation.itertuples():
                mask = self.maps.mask(row) if self.localization.use_masks else None
                yield ValidationMap(self.maps.map(row), int(row.label), mask, self.maps.ignored(row))

        def cells(label: int) -> Iterator[NDArray]:
            return (self.maps.counted(row) for row in validation.query("label == @label").itertuples())

        return Localizer.fit(self.localization, native, cells)

    def bank_auroc(self) -> float | None:
        """Measure the image AUROC of the memory bank alone on the validation split; None where it cannot be."""
        if "memory" not in self.products:
            return None
        validation = rows_of(self.run.images(), "validation")
        score = top_k_mean(stacked(self.run.maps("memory", self.products["memory"]), validation))
        return image_scores(validation["label"], score, None)["auroc"]

    def class_left_out(self) -> str | None:
        """Say why the decision takes nothing from the class network, by the shortcut check; None where it may.

        Training images count beside those of the validation split: they are many more, but a little in the network's
        favour, since it was fitted on them.
        """
        if self.decision.score != "fusion" or not self.run.has_class_network:
            return None
        product = self.products["fusion"]
        validation = rows_of(self.run.images(), "validation").merge(read_shortcut_table(product), on="path")
        found = validation[(validation["label"] == 1) & (validation["log_odds"] > 0)]
        n_found, n_retained = product.note["training_counts"]
        n_found, n_retained = n_found + len(found), n_retained + int((found["retained_log_odds"] > 0).sum())
        share = n_retained / n_found if n_found else None
        if not is_suspicious({"n_found": n_found, "retained_share": share}, self.bank_auroc()):
            return None
        return (
            f"The class network is left out of the decision: of {n_found} training and validation images that it "
            f"predicts defective, {share:.0%} are retained under counterfactual replacement of what is not anomalous."
        )

    def shortcut(self) -> dict[str, Any] | None:
        """Score what the class decision rests on; None without a class network, and where no fusion was made."""
        if "fusion" not in self.products or not self.run.has_class_network:
            return None
        retained = read_shortcut_table(self.products["fusion"])
        return scoring.shortcut(self._maps_of("cam"), retained, self.bank_auroc())
