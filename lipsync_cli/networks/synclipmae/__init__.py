"""SyncLipMAE (arXiv:2510.10069): one token space for lips and sound."""
