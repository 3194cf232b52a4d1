"""Telling programs outside what happened."""
