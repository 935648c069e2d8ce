"""`python -m defectloc.train`: fit one fold (or find it already fitted), predict, localise, score."""

from defectloc.cli import run_command


def main() -> None:
    """Command line."""
    run_command("train", "defectloc.runs.training:run")


if __name__ == "__main__":
    main()
