"""First in ``PYTHONPATH`` where no test looks at pages: as if it were not installed, none is drawn."""

raise ImportError("no page is drawn here")
