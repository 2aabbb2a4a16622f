"""Lip reading: mouth crops or vocal tokens in, sentences with times and confidences out.

Reading order: `model` (the whole network), `frontend`, `conformer`, `decoder` (its parts), `units` and `grammar`
(what may be written), `beam` (the search), `ctc` and `align` (its sums and times), `losses`, `objective`.
"""
