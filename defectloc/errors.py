"""The exceptions whose messages are meant for people."""


class DefectlocError(Exception):
    """One sentence: what is wrong, where, and what to do; the command line turns it into exit code 2."""


class InterruptedJobError(DefectlocError):
    """A job of a sweep that was asked to stop; the same sweep started again goes on with it."""


class SweepError(Exception):
    """Jobs of a sweep that have failed: the overrides of each, and its exception."""

    def __init__(self, failures: list[tuple[str, Exception]]) -> None:
        super().__init__(f"{len(failures)} of the jobs failed")
        self.failures = failures
