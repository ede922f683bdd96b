"""What a person sees: the console and the HTML report. Nothing else prints."""
