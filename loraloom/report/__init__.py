"""A run as one page that can be shown to others: its plain files in, HTML, Markdown, JSON or CSV out."""
