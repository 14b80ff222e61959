"""Bytes on the wire: frames, and later the connections between members."""
