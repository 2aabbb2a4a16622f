"""Dubbing, whatever network does it: the plan, windows, masks, compositing, and the engine's protocol."""
