"""Errors that say what is wrong, what was found, what was wanted and what to do next."""

from __future__ import annotations


class MetarecError(Exception):
    """Base of every error metarec raises on purpose.

    Args:
        subject: The thing at fault: a file, a table, a column, a setting.
        found: The value or state that was found.
        wanted: The value or state that would have been fine.
        next_step: One action that leads out.

    The exit code is what the ``metarec`` command returns for the class.
    """

    exit_code = 1

    def __init__(self, subject: str, *, found: str, wanted: str, next_step: str) -> None:
        self.subject = subject
        self.found = found
        self.wanted = wanted
        self.next_step = next_step
        super().__init__(subject, found, wanted, next_step)

    def __str__(self) -> str:
        return (
            f"{self.subject}: found {self.found}; wanted {self.wanted}. Next step: {self.next_step}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default reduction, and Prefect carries
        # exceptions between processes.
        return (_rebuild, (type(self), self.args))


def _rebuild(kind: type[MetarecError], args: tuple[str, str, str, str]) -> MetarecError:
    subject, found, wanted, next_step = args
    return kind(subject, found=found, wanted=wanted, next_step=next_step)


class ConfigError(MetarecError):
    """A setting is unknown, out of range or contradicts another one."""

    exit_code = 2


class DatasetError(MetarecError):
    """A dataset, its descriptor or one of its files is missing or cannot be read."""

    exit_code = 3


class ValidationError(MetarecError):
    """The data was read, and a critical expectation does not hold."""

    exit_code = 4


class StorageError(MetarecError):
    """The lake, a stage's output or the home directory cannot be read or written."""

    exit_code = 5


class ModelError(MetarecError):
    """A model is missing, damaged or does not fit the data it is asked about."""

    exit_code = 6


class ServiceError(MetarecError):
    """A server (Prefect, MLflow) or a worker cannot be started or reached."""

    exit_code = 7


class CatalogueTooLargeError(ModelError):
    """A learner that is quadratic in the catalogue was asked to go above its item cap."""

    exit_code = 8
