"""A laboratory for small language models, measured against data whose truth is known exactly."""

from nanollama.waiting import set_waiting

__version__: str

set_waiting()  # torch reads it once, when it is loaded: nothing of this package is imported before


def __getattr__(name: str) -> object:
    """The version, looked up when it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nanollama.version import find_version

    return find_version()
