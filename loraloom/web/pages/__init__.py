"""The web pages of `loraloom ui`. They read runs and call `loraloom.api`, and have no logic of their own."""
