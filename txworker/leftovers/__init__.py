"""What jobs leave behind: finding it, attributing it to jobs, and ending it until nothing is left."""
