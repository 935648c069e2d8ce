"""How Hydra starts the jobs of a sweep; it finds its plugins in this package only, in each process of a sweep."""

import warnings

from defectloc.launchers import REPLACED

warnings.filterwarnings("ignore", message=REPLACED)
