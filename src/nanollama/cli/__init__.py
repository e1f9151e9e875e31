"""The command ``nanollama``."""
