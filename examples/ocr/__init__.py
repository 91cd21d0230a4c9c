"""OCR of photographed pages with PP-OCRv6: detect -> crop -> direction -> recognise -> page."""
