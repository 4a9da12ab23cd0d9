"""All of it in one app, and as code."""
