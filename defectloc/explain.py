"""`python -m defectloc.explain`: which places of an image a network's score depends on, by one of many methods."""

from defectloc import cli


def main() -> None:
    """Command line."""
    cli.run_command("explain", "defectloc.runs.explaining.command:run")


if __name__ == "__main__":
    main()
