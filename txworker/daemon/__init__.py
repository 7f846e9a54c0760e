"""What twistd runs: the service, its assembly from all rooms, and how it starts and stops."""
