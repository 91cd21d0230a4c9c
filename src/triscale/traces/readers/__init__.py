"""Files of recorded load: counts per second, columns of a CSV, timestamps, the Azure Functions layout."""
