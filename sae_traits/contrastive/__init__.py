"""Train a CLIP on names, traits and captions: data, objectives, trainer; thin on transformers and Accelerate."""
