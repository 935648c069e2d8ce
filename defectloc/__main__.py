"""`python -m defectloc <command>`."""

from defectloc.cli import main

main()
