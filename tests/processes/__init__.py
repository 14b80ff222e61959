"""Real processes, real signals, a real disk."""
