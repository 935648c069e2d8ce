"""`python -m defectloc.benchmark`: speed, side by side, in one process."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("benchmark", "defectloc.benchmarks.measuring:run")


if __name__ == "__main__":
    main()
