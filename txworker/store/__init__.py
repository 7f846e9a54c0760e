"""What survives: every job that was taken, until retention removes it. One file of SQLite, one worker at a time."""
