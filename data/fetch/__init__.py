"""Fetch radar volumes from open archives on S3: list, choose, transfer, check, record."""
