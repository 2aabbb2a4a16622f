"""Files in and out: probing, frames by timestamp, shot cuts, and fixed copies of a file."""
