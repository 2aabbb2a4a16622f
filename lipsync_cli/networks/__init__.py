"""The rooms, one folder a network family: tensors in, tensors out; no ffmpeg, no files but weights.

synclipmae: faces and speech to tokens.  vsr: lip reading.  understanding: emotion and actions.
latentsync, vace, flashlips: dubbing.  blocks: what two or more rooms share.
"""
