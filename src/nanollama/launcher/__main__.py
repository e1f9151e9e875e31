"""``python -m nanollama.launcher CONFIG``: submit to Slurm."""

import sys

from nanollama.launcher.slurm.submit import main

if __name__ == "__main__":
    sys.exit(main())
