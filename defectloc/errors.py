"""The one exception whose message is meant for people."""


class DefectlocError(Exception):
    """One sentence: what is wrong, where, and what to do; the command line turns it into exit code 2."""
