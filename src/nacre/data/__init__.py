"""Floor 2: from files to rows that can be trained on, and a reason for each row that cannot. No torch."""
