"""What launches, resizes, drains and watches replicas."""
