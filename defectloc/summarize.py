"""`python -m defectloc.summarize`: all runs below `outputs`, grouped by setting."""

from defectloc import cli


def main() -> None:
    """Command line."""
    cli.run_command("summarize", "defectloc.runs.summarizing:run")


if __name__ == "__main__":
    main()
