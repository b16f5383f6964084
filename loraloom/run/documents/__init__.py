"""The JSON files of a run, one module a document: the classes that their writers and readers share."""
