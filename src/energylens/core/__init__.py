"""The nouns that every room shares; imports nothing of ours."""
