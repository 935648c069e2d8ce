"""What is retained of each image's class log-odds under counterfactual replacement, as the fusion has written it."""

import pandas as pd

from defectloc.errors import DefectlocError
from defectloc.runs.products import Product

SHORTCUT = "shortcut.csv"


def read_shortcut_table(product: Product) -> pd.DataFrame:
    """Read `path, retained_log_odds, retained_area, retained_evidence`; raises DefectlocError where that cannot be."""
    path = product.folder / SHORTCUT
    try:
        return pd.read_csv(path, dtype={"path": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DefectlocError(f"{path} cannot be read ({error}); start the same 'defectloc train' again.") from error
