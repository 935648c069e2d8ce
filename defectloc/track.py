"""`python -m defectloc.track`: tell an experiment tracker of finished runs."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("track", "defectloc.runs.tracking.command:run")


if __name__ == "__main__":
    main()
