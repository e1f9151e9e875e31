"""``python -m apps.memory.circuit CONFIG``: examine the model built by hand."""

import sys

from apps.memory.circuit import main

if __name__ == "__main__":
    sys.exit(main())
