"""The interfaces over HTTP: pages for people, and an API for programs."""
