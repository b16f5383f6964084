"""Pages for people: `loraloom ui`. They read runs and call `loraloom.api`, and have no logic of their own."""
