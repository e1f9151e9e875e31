"""A laboratory for small language models, measured against data whose truth is known exactly."""

from nanollama.waiting import set_waiting

__version__ = "0.1.0"

set_waiting()  # torch reads it once, when it is loaded: nothing of this package is imported before
