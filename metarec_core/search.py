"""Where tuning may look for the value of a setting; declared beside the setting."""

from __future__ import annotations

from dataclasses import dataclass

from metarec_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number from ``low`` to ``high``, both included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Uniform in the logarithm; ``low`` is then positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, log=self.log)


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from ``low`` to ``high``, both included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Uniform in the logarithm; ``low`` is then positive.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, log=self.log)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values.

    Attributes:
        values: What may be chosen, at least one.
    """

    values: tuple[bool | int | float | str, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError(
                "a search space",
                found="a choice of no values",
                wanted="at least one",
                next_step="name the values, or leave the setting out of `search`",
            )


Distribution = Uniform | Integer | Choice
"""What a setting may be tuned over."""


def _check_range(low: float, high: float, *, log: bool) -> None:
    if not low < high or (log and low <= 0):
        raise ConfigError(
            "a search space",
            found=f"the range {low} to {high}{' in the logarithm' if log else ''}",
            wanted=f"low < high{' and low > 0' if log else ''}",
            next_step="correct the range where the learner declares `search`",
        )
