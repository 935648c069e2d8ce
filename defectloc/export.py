"""`python -m defectloc.export`: a finished run as a model that runs without PyTorch."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("export", "defectloc.runs.exporting:run")


if __name__ == "__main__":
    main()
