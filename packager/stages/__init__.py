"""One module for each stage of the pipeline, with one public step each."""
