"""The pages of the dashboard, each a layout and its callbacks."""
