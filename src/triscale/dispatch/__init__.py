"""The data plane without I/O: queues, batching, deadlines, drops, rescue, joins."""
