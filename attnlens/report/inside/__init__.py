"""Views and figures of the steps inside a model, for the pages below `/inside` and for reports."""
