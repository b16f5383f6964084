"""Text for users: messages and their translations, figures with units, line breaks, escaping."""
