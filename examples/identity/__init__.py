"""The smallest pipeline: one stage that answers with what it was sent. What is left to measure is triscale itself."""
