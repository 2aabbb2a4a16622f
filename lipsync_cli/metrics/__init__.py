"""Pure functions that score results: numbers in, numbers out. No files, no networks.

sync: per-frame lag accuracy, R-precision, LSE-C and LSE-D.
"""
