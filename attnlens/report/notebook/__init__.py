"""What a notebook shows for a run, a head or a result: one frame that asks for nothing and holds a bounded amount.

Jupyter, VS Code, Colab and Databricks show the HTML of `_repr_html_`. Ours is an `iframe` with its whole page in
`srcdoc`: no require.js, no network, no script outside the frame, which is sandboxed and has a Content-Security-Policy
of its own. Its pictures are the canvases of the dashboard.
"""
