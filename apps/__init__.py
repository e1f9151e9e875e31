"""The studies: each trains models on data whose truth is known exactly. They never import each other."""

import nanollama as nanollama  # before torch, whichever module of a study begins, see nanollama.waiting
from nanollama.interrupts import say_interrupted

say_interrupted()
