"""What was done to a column or a table on the way from the original to the suspect."""
