"""Whole files of cells, uploaded by strangers: kept in private folders, read by processes of their own."""
