"""Faces in pictures: detection, landmarks, tracks, aligned crops and the way back."""
