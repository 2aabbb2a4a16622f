"""What training reads: prepared clips, their manifest, and how both are made from footage."""
