"""A study for tests of launching; tests copy it into a checkout of their own as ``apps/toy``."""
