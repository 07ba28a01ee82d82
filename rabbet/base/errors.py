"""Every error a user can meet: the class says what was wrong, the message names it."""

from __future__ import annotations

from typing import Any, ClassVar

from rabbet.base import lines


class RabbetError(Exception):
    """Base class of all errors raised on purpose by Rabbet.

    Shown, most say which line of the user's code they came through: it is looked up in the
    traceback then, so that raising an error costs nothing more.
    """

    tells_line: ClassVar[bool] = True
    position: Any = None  # of the recorded op it comes from, or what stands for it in its graph

    @property
    def said(self) -> str:
        """The message without the line."""
        return super().__str__()

    def __str__(self) -> str:
        if not self.tells_line or lines.has_line(self.said):
            return self.said
        return lines.with_line(self.said, lines.of_traceback(self.__traceback__))


class ShapeError(RabbetError, ValueError):
    """Shapes do not fit the rule of an op."""


class DTypeError(RabbetError, TypeError):
    """A dtype is unknown, or does not fit the rule of an op."""


class AxisError(ShapeError, IndexError):
    """An axis that a tensor does not have."""


class IndexKeyError(ShapeError, IndexError):
    """A key names more axes than there are, or a mask does not fit its axes."""


class NumberRangeError(DTypeError, OverflowError):
    """A number lies outside the range of its dtype."""


class ParameterError(RabbetError, ValueError):
    """A parameter of a distribution, or a value given to it, is not what it may be."""


class DeviceError(RabbetError, ValueError):
    """A device is unknown or not available."""


class IndexRangeError(RabbetError, IndexError):
    """An index lies outside its axis."""


class LinAlgError(RabbetError, ValueError):
    """A decomposition does not exist or did not converge."""


class GradientError(RabbetError, RuntimeError):
    """A gradient was asked for where there is none, or for the second time."""


class AnomalyError(RabbetError, RuntimeError):
    """A value that is not finite was made, inside `rb.detect_anomaly()`."""


class DroppedValue(GradientError):
    """A value that a gradient needs was dropped, and cannot be computed again."""


class FormatError(RabbetError, ValueError):
    """A file is not what its name says, is damaged, or is of a version we do not read."""

    tells_line = False


class ExportError(RabbetError, RuntimeError):
    """A model cannot be exported as asked."""

    tells_line = False


class BuildError(RabbetError, RuntimeError):
    """Native code cannot be built."""

    tells_line = False


class CompileError(RabbetError, RuntimeError):
    """The compiler failed; the message names the op and its line."""


class MissingExtra(RabbetError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""

    tells_line = False


class InternalError(RabbetError, AssertionError):
    """A rule that must always hold was broken: a bug in Rabbet, please report it."""

    tells_line = False


# Users see and catch them as `rabbet.ShapeError`, wherever the class stands.
_further = (AxisError, IndexKeyError, NumberRangeError)
for _error in [RabbetError, *RabbetError.__subclasses__(), *_further]:
    _error.__module__ = "rabbet"
