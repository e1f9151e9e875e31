"""Exchange with what everybody uses: Hugging Face folders, there and back, and lm-eval."""
