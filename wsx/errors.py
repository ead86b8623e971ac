"""Every error that wsx raises on purpose.

A message says what was wrong, the value, what was expected and what to do. The command line prints it in
one line and exits with 1. Children inherit the built-in that fits, so library users can catch either.
"""


class WsxError(Exception):
    """Root of all deliberate errors."""


class UnknownNameError(WsxError, KeyError):
    """A name that no registry entry, option or field carries."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument; a sentence should read as one.
        return str(self.args[0]) if self.args else ""


class DuplicateNameError(WsxError, ValueError):
    """A second object registered under a taken name."""


class OptionError(WsxError, ValueError):
    """An option whose value is out of range or of the wrong kind."""


class ArchError(WsxError, ValueError):
    """An arch that is malformed or lies outside its space."""


class ShapeError(WsxError, ValueError):
    """Arrays whose shapes do not fit together."""


class DataError(WsxError, ValueError):
    """A dataset that is missing, unlabelled, unreadable or of the wrong shape."""


class TrainingError(WsxError, RuntimeError):
    """Training that cannot go on, such as a loss that is not finite."""


class CheckpointError(WsxError, ValueError):
    """A checkpoint or run folder that is truncated, foreign or does not fit."""


class ExportError(WsxError, RuntimeError):
    """A subnet that cannot be recorded or emitted."""


class DeviceError(WsxError, RuntimeError):
    """A device that was asked for and cannot be used."""


class MissingExtraError(WsxError, ImportError):
    """An optional dependency that is not installed, or installed twice."""


class StoreError(WsxError, OSError):
    """A score file that is damaged, locked, foreign or cannot be written."""


class StoreVersionError(StoreError):
    """A score file written in a newer format than this wsx reads."""


class StoreKeyError(StoreError):
    """Scores offered to a campaign with another score key."""


class TruthError(WsxError, ValueError):
    """A truth table that is unreadable or does not fit the space."""


class StudyError(WsxError, ValueError):
    """A folder that holds another study, or a study whose steps are missing."""
