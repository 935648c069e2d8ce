"""`python -m defectloc.annotate`: boxes for an annotation tool, each image's by a fold that did not see it."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("annotate", "defectloc.runs.annotating.command:run")


if __name__ == "__main__":
    main()
