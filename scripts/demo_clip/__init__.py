"""How the CLIP of the drawn world was made, with which `make demo` ends; `scripts/train_demo_clip.py` is its command.

It has only ever seen drawings, and says so in its config.json: it is refused for all other collections.
"""
