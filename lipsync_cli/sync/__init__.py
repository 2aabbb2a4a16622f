"""Numbers only: similarity → lag curve → lead, its interval, reasons to doubt it; speaker, drift, verdict.

Reading order: `similarity` (what is compared), `curve` (where it peaks), `confidence` (how sure), `reasons`
(when not to trust it), `estimate` (all of it in one call), then `speaker`, `programme` and `verdict`.

Sign, everywhere: `lead > 0` means the sound comes EARLY; it equals the delay to apply to the sound.
Shapes: T video frames, n audio tokens, D embedding, L candidate leads, B time blocks, R bootstrap replicates.
"""
