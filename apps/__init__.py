"""The studies: each trains models on data whose truth is known exactly. They never import each other."""
