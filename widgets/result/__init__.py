"""What a model made: classes, probabilities, entropy, years; and their files."""
