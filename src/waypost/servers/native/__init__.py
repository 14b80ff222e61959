"""The native door: frames over TCP, for the client libraries and the command line."""
