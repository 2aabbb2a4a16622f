"""Pure functions that score results: numbers in, numbers out. No files, no networks.

picture: PSNR and SSIM.  sync: per-frame lag accuracy, R-precision, LSE-C and LSE-D.
"""
