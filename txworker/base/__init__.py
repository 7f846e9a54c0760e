"""What every package may use: logging, rate limits, waiting, safe text, safe directories, types of the reactor."""
