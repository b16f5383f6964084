"""The report of a run as one page that can be shared, or as Markdown, JSON or CSV, from its plain files."""
