"""An API in the format of OpenAI's, which serves a base and its adapters."""
