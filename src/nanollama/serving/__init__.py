"""Pages that this machine serves to itself alone: `nanollama watch`, and `nanollama chat --web`.

`.server` says who is answered; ``parts.js`` makes texts, and nothing but texts, of what runs and models
wrote.
"""
