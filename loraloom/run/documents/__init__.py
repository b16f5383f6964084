"""The JSON files of a run, one module per document: classes that writers and readers share."""
