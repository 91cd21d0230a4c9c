"""The worker program, and the server's end of its connection."""
