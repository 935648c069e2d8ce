"""Run directories: fitting, maps, post-processing, scoring, figures and prediction of a run."""
