"""`python -m defectloc.explain` by the real command line."""
