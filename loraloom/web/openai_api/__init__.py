"""An API in the form of OpenAI's, over a base and its adapters."""
