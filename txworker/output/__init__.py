"""What jobs print: written by the reactor, read by threads."""
