"""The Python API: one verb, one file, one function that returns a frozen result."""
