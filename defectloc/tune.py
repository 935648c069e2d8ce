"""`python -m defectloc.tune`: search settings by Optuna on inner folds."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("tune", "defectloc.runs.sweeping.search:run")


if __name__ == "__main__":
    main()
