"""The errors users meet, one class per exit code.

LipsyncError (1, a bug in us)
├── UsageError (2)      the command cannot mean what was typed
├── InputError (3)      missing, undecodable, no sound, no face
├── InconclusiveError (4)  measured, but not to be trusted
├── WeightsError (5)    name, network, licence gate, checksum
└── ResourceError (6)   device, memory, disk
"""


class LipsyncError(Exception):
    """One sentence of what is wrong with which file, and one pasteable line of what to do.

    message: the sentence, naming the file.  hint: the line, or "" when nothing can be done.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self):  # keeps the hint when a worker process hands the error back
        return type(self), (self.message, self.hint)


class UsageError(LipsyncError):
    """The command line or recipe cannot mean what was typed."""

    exit_code = 2


class InputError(LipsyncError):
    """The input is missing, undecodable, or lacks what the verb needs (sound, picture, a face)."""

    exit_code = 3


class InconclusiveError(LipsyncError):
    """The measurement was made and must not be trusted; the message lists the reasons."""

    exit_code = 4


class WeightsError(LipsyncError):
    """Weights are unavailable: unknown name, no network, licence gate, wrong checksum."""

    exit_code = 5


class ResourceError(LipsyncError):
    """The machine lacks what was asked for: device, memory, disk."""

    exit_code = 6
