"""Malformed records in numbers, through the pipeline of a partition: none may go missing."""
