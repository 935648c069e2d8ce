"""`python -m defectloc.localize`: boxes and scores of a finished run; no network, no torch."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("localize", "defectloc.runs.localizing:run")


if __name__ == "__main__":
    main()
