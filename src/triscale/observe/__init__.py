"""What is counted and shown: metrics, windows, logs."""
