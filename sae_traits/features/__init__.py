"""Frozen backbones and the patch features that they give."""
