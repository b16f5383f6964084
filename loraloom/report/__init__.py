"""The report of a run: one page to share, or Markdown, JSON or CSV."""
