"""Text as data: from files or a hub, tokenised once, in batches that are functions of (seed, step, rank)."""
