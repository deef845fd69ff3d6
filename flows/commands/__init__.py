"""The commands of `lull`, one file each: a function `run` that does the work, prints, and returns the exit code."""
