"""The command ``nanollama``."""

from nanollama.interrupts import say_interrupted

say_interrupted()
