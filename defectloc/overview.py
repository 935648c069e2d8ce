"""`python -m defectloc.overview`: describe the data set before training."""

from defectloc import cli


def main() -> None:
    """Command line."""
    cli.run_command("overview", "defectloc.reporting.description:run")


if __name__ == "__main__":
    main()
