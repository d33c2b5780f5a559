"""Views (arrays with labels), the figures drawn of them, and the offline HTML files that hold both."""
