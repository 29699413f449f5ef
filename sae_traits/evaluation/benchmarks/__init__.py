"""Benchmarks that need no run: images with any labels, any CLIP or embeddings, and one file per task."""
