"""`python -m defectloc.report`: a run as one self-contained HTML page, or an index page over all runs."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("report", "defectloc.runs.reports.command:run")


if __name__ == "__main__":
    main()
