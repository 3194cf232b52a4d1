"""What an increment came to, for people: facts from the ledger and the weights' folder, drawn as HTML or Markdown."""
