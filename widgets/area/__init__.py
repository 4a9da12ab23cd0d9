"""Where: an area drawn, written, uploaded or remembered, and what fetching it takes."""
