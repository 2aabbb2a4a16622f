"""Sound as numbers: loading on the container's timeline, mel spectra, voice activity."""
