"""The one exception type whose message is meant for the person at the keyboard."""


class MlipError(ValueError):
    """A mistake the user can mend: what was found, what was expected, and what to do.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """
