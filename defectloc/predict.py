"""`python -m defectloc.predict`: new images by a finished run."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("predict", "defectloc.runs.predicting:run")


if __name__ == "__main__":
    main()
