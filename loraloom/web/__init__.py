"""The faces that a browser or a program reaches over HTTP: pages for people, and an API."""
