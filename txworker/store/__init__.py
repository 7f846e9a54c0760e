"""What survives: the newest record of each job."""
