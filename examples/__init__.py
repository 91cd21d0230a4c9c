"""Example pipelines: real OCR (`ocr`), a reader of digit strips that needs only numpy (`digits`), and `identity`.

Each folder holds a `pipeline.yaml`, the models that it names, and what makes labelled requests for it.
"""
