"""What is kept of versions: archives, retention, verification, descriptions."""
