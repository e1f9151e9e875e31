"""``nanollama chat RUN --web``: a page on this machine in which a trained model is asked.

A study says who speaks and what is true (`.speaker`); a dialog becomes parts, with the probability of each
token and what the model looked at (`.reading`); `.server` serves them to this machine alone.
"""
