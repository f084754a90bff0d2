"""A summary as text, markdown, JSON and CSV. Each `render` writes to the stream it is handed and computes nothing."""
