"""A measure held to a bound, as claims and their conditions hold it."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from nanollama.config import Config


class Bounded(Config):
    """A measure held to a bound."""

    measure: str = Field(description="Name of a number of the final evaluation.")
    at_least: float | None = Field(default=None, description="It must be this or more.")
    at_most: float | None = Field(default=None, description="It must be this or less.")

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"

    def holds_for(self, value: float) -> bool:
        """Is a value within the bound, but for what rounding does to differences and ratios?"""
        bound, sign = (self.at_least, 1) if self.at_least is not None else (self.at_most or 0.0, -1)
        return sign * value >= sign * bound or math.isclose(value, bound, rel_tol=1e-9, abs_tol=1e-12)


class Condition(Bounded):
    """What has to be so for a claim to say anything."""

    @model_validator(mode="after")
    def _check(self) -> Condition:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("needs one of at_least and at_most")
        return self
