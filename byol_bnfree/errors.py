"""The one exception that is the user's to mend."""


class InputError(ValueError):
    """The user's input is at fault; the message is one sentence saying what to do.

    Command lines print it and exit with status 2, without a traceback.
    """


class RunStopped(RuntimeError):
    """A run ended before its last step; what could be saved is saved.

    Command lines print the message and exit with `status`; with `at_once` they do not
    wait for background threads, which after a failed save may take minutes to end.
    """

    def __init__(self, message: str, status: int = 1, at_once: bool = False):
        super().__init__(message)
        self.status = status
        self.at_once = at_once
