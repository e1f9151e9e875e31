"""Dialogs: as data, written by a model with tools, and what right ones look like."""
