"""Pages for people: `loraloom ui`. They read runs and call `loraloom.api`, without logic of their own."""
