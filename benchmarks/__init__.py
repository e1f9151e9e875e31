"""Timings beside what one would use instead."""

import nanollama as nanollama  # before torch: timed as the studies run, see nanollama.waiting
