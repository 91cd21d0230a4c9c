"""The live dashboard: one page that reads the status documents of a server, and no logic of the server's."""
