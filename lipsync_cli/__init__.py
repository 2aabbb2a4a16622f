"""lipsync: detect, fix, read and re-create the match between mouths and sound."""

__version__ = "0.1.0"
