"""What a job leaves behind: found, and ended until nothing of the job runs."""
