"""Run directories: fitting, maps, post-processing, scoring, figures; a package for each larger use of finished runs."""
