"""What the model looked at, and places like this one."""
