"""What users see: tables of text, the terminal, files that are written whole."""
