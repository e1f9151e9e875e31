"""A laboratory for small language models, measured against data whose truth is known exactly."""

__version__ = "0.1.0"
