"""The HTTP interfaces: web pages for people, and an API for programs."""
