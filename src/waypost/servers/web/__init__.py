"""What every door over HTTP stands on: how a request is read, and how a door is mounted."""
