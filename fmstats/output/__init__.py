"""Produce what users see: tables of text, the terminal, and files written whole."""
