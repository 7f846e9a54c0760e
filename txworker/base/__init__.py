"""What every room uses: the log, waiting, text and directories of others."""
