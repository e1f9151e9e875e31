"""How does chain-of-thought emerge, and what is an iteration head? (arXiv 2406.02128)"""
