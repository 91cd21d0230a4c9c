"""A reader of strips of handwritten digits, in numpy alone: segment -> classify. Starts at once, downloads nothing."""
