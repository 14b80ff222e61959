"""The door for Prometheus: its HTTP service discovery (``http_sd``)."""
