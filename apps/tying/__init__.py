"""What does it change to train with tied embeddings, and to untie them midway?"""
