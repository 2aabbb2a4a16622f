"""The one training loop, and what a recipe must bring to it. Knows nothing of any network."""
