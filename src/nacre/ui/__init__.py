"""Floor 5: the page. It is mounted in the server that it shows, and does nothing but ask that server's API with a key.

Needs the extra `ui` (Gradio), which takes seconds to import: nothing here is imported unless the page is on.
"""
