"""What helps to test and to learn without the network."""
