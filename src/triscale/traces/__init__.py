"""Arrivals: processes, readers, open-loop replay."""
